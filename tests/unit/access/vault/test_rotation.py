"""A new master key, and a stop at every step of getting there."""

from __future__ import annotations

import os
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet_api.access.vault.keyring import Keyring, VaultLocked
from fleet_api.access.vault.rotation import rotate
from fleet_api.access.vault.service import VaultService
from fleet_api.kit.db import Database
from tests.support.clock import ManualClock


class Stopped(Exception):
    pass


@pytest.fixture
async def vault(tmp_path: Path, _empty_database: Path) -> AsyncIterator[VaultService]:
    shutil.copy(_empty_database, tmp_path / "fleet.db")
    db = Database(tmp_path / "fleet.db")
    service = VaultService(db, ManualClock(), Keyring(tmp_path / "vault"))
    for number in range(3):
        await service.add(f"c{number}", "jetson", {"password": f"secret {number}"})
    yield service
    await db.close()


async def everything_opens(vault: VaultService) -> None:
    for number in range(3):
        assert (await vault.open(f"c{number}")).password == f"secret {number}"


def keys_of(vault: VaultService) -> set[str]:
    return {path.stem for path in vault.keyring.keys_folder.glob("*.key")}


async def test_a_rotation(vault: VaultService) -> None:
    (old,) = keys_of(vault)
    done = await rotate(vault._db, vault.keyring)
    assert (done.rewrapped, done.removed, done.left) == (3, [old], [])
    assert keys_of(vault) == {done.key_id}
    assert done.key_id != old
    assert {(await vault.get(f"c{number}")).key_id for number in range(3)} == {done.key_id}
    await everything_opens(vault)


async def test_stopped_at_every_step(vault: VaultService) -> None:
    steps: list[str] = []
    await rotate(vault._db, vault.keyring, steps.append)
    assert [step.split()[0] for step in steps] == ["make", "make", "rewrap", "rewrap", "rewrap", "remove"]
    for stop_at in range(len(steps)):
        before = keys_of(vault)
        left = iter(range(stop_at, -1, -1))

        def step(_: str, left: object = left) -> None:
            if next(left) == 0:  # type: ignore[call-overload]
                raise Stopped

        with pytest.raises(Stopped):
            await rotate(vault._db, vault.keyring, step)
        assert before & keys_of(vault), "the old key is there while a row may need it"
        await everything_opens(vault)
        await vault.add(f"more {stop_at}", "jetson", {"password": "later"})
        done = await rotate(vault._db, vault.keyring)
        assert keys_of(vault) == {done.key_id}
        assert not before & {done.key_id}
        assert not done.left
        await everything_opens(vault)


async def test_one_that_does_not_open_keeps_its_key(vault: VaultService) -> None:
    (old,) = keys_of(vault)
    row = await vault.get("c1")
    spoilt = row.sealed.replace('"key":"', '"key":"AAAA')
    with vault._db.engine.begin() as db:
        db.exec_driver_sql("UPDATE credentials SET sealed = ? WHERE id = ?", (spoilt, row.id))
    done = await rotate(vault._db, vault.keyring)
    assert (done.rewrapped, done.removed, done.left) == (2, [], ["c1"])
    assert keys_of(vault) == {old, done.key_id}
    with pytest.raises(VaultLocked, match="'c1' does not open: its row was changed from outside"):
        await vault.open("c1")
    again = await rotate(vault._db, vault.keyring)
    assert again.key_id != done.key_id, "what is damaged does not hold up the next rotation"


async def test_keys_from_elsewhere(vault: VaultService, tmp_path: Path) -> None:
    first, second = (b64encode(os.urandom(32)).decode() for _ in range(2))
    file = tmp_path / "given"
    file.write_text(first + "\n")
    file.chmod(0o600)
    given = Keyring(tmp_path / "vault2", file)
    service = VaultService(vault._db, ManualClock(), given)
    with pytest.raises(VaultLocked, match="does not hold the vault's master key"):
        await service.open("c0")
    made = await service.add("given", "jetson", {"password": "g"})
    file.write_text(f"{second}\n{first}\n")
    assert (await service.open("given")).password == "g"
    done = await rotate(vault._db, given)
    assert (done.rewrapped, done.removed) == (1, [])
    file.write_text(second + "\n")
    assert (await service.open(made.id)).password == "g"
    assert not (tmp_path / "vault2" / "keys").exists()
    file.chmod(0o604)
    with pytest.raises(VaultLocked, match="Others may read the vault's master key"):
        await service.open("given")
    file.chmod(0o640)
    file.write_text("short\n")
    with pytest.raises(VaultLocked, match="32 random bytes in base64"):
        await service.open("given")


async def test_a_secret_moved_to_another_row(vault: VaultService) -> None:
    other = await vault.get("c1")
    with vault._db.engine.begin() as db:
        db.exec_driver_sql("UPDATE credentials SET sealed = ? WHERE name = 'c0'", (other.sealed,))
    with pytest.raises(VaultLocked, match="changed from outside"):
        await vault.open("c0")
