"""``kill -9`` at every step of a new master key: afterwards every credential opens, and the next rotation comes to its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.rotation import Rotated, rotate
from fleet_api.access.vault.service import VaultService
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database

pytestmark = pytest.mark.faults

NAMES = ("c0", "c1", "c2")
STEPS = 2 + len(NAMES) + 1
DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.rotation import rotate
from fleet_api.kit.db import Database

home, left = Path(sys.argv[1]), int(sys.argv[2])

def step(_):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

asyncio.run(rotate(Database(home / "fleet.db"), Keyring(home / "vault"), step))
"""


async def with_vault(home: Path, work: str) -> Rotated | None:
    db = Database(home / "fleet.db")
    keyring = Keyring(home / "vault")
    vault = VaultService(db, SystemClock(), keyring)
    try:
        if work == "fill":
            for name in NAMES:
                await vault.add(name, "jetson", {"password": f"secret of {name}"})
            return None
        for name in NAMES:
            assert (await vault.open(name)).password == f"secret of {name}"
        return await rotate(db, keyring) if work == "rotate" else None
    finally:
        await db.close()


@pytest.mark.parametrize("step", range(STEPS))
def test_killed_at(step: int, tmp_path: Path, _empty_database: Path) -> None:  # noqa: PT019 - its value is wanted
    shutil.copy(_empty_database, tmp_path / "fleet.db")
    asyncio.run(with_vault(tmp_path, "fill"))
    before = {path.name for path in (tmp_path / "vault" / "keys").iterdir()}
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), str(step)], env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == -signal.SIGKILL
    asyncio.run(with_vault(tmp_path, "look"))
    finished = asyncio.run(with_vault(tmp_path, "rotate"))
    assert finished is not None
    assert not finished.left
    after = {path.name for path in (tmp_path / "vault" / "keys").iterdir()}
    assert after == {f"{finished.key_id}.key"}
    assert after.isdisjoint(before)
    asyncio.run(with_vault(tmp_path, "look"))


def test_there_are_as_many_steps(tmp_path: Path, _empty_database: Path) -> None:  # noqa: PT019 - its value is wanted
    shutil.copy(_empty_database, tmp_path / "fleet.db")
    asyncio.run(with_vault(tmp_path, "fill"))
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), str(STEPS)], env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == 0
