"""Kill -9 at 100 random moments of sync, proof and delete: no picture is lost, whatever is where."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade
from fleet_api.outputs import repository
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.models import Output
from fleet_api.outputs.search.repository import Wanted, page
from fleet_api.outputs.sync.service import OutputSync
from fleet_api.storage.buckets import OUTPUTS
from tests.support.s3 import KnownStore, S3Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]  # 54 s alone, 152 s beside a busy disk

KILLS, PICTURES, ADDED = 100, 60, 6


def add_pictures(home: Path, numbers: range) -> None:
    """Make pictures (random bytes: what they show is nobody's business here) and their rows."""
    rows = []
    for number in numbers:
        name, data = f"image_{number:05}.png", random.randbytes(20_000)
        (home / "outputs" / name).write_bytes(data)
        rows.append(
            Output(filename=name, job_id="", node_id="", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), created_at=time.time())
        )

    async def write() -> None:
        db = Database(home / "fleet.db")
        await db.write(lambda connection: repository.add_all(connection, rows))
        await db.close()

    asyncio.run(write())


class Telling(KnownStore):
    """The store, which tells of each copy that it took and of each that is read back."""

    def __init__(self, server: S3Server, pipe: int) -> None:
        super().__init__(server)
        self._pipe = pipe
        for name, letter in (("put", b"p"), ("open", b"o")):
            setattr(self._store, name, self._told(getattr(self._store, name), letter))

    def _told(self, call: Any, letter: bytes) -> Any:
        def told(*given: Any, **more: Any) -> Any:
            answer = call(*given, **more)
            os.write(self._pipe, letter)
            return answer

        return told


def move(home: Path, server: S3Server, pipe: int) -> None:
    """Sync and clean up, over and over, until the end comes."""

    async def run() -> None:
        files = OutputFiles(home / "outputs")
        files.prepare()
        sync = OutputSync(Database(home / "fleet.db"), SystemClock(), files, Telling(server, pipe))  # type: ignore[arg-type]
        while True:
            await sync.move_all()

    asyncio.run(run())


def wait_for(pipe: int, letter: bytes, times: int) -> None:
    """Wait until so many were told, or nothing more is: then all is done."""
    seen = 0
    while seen < times and select.select([pipe], [], [], 20 if not seen else 1)[0]:
        told = os.read(pipe, 1)
        if not told:
            return
        seen += told == letter


def check(home: Path, server: S3Server, rows: list[Output]) -> tuple[int, int]:
    """Compare every checksum; return how many files the folder and the bucket have. A row may say less than there is, never more."""
    local = synced = 0
    for row in rows:
        places = (home / "outputs" / row.key, server.folder / OUTPUTS / row.key)
        there = [path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256 for path in places]
        assert any(there), f"{row.filename} is lost"
        assert there[0] or row.synced_at is not None, f"{row.filename} went before it was noted to be in the bucket"
        assert there[1] or row.synced_at is None, f"{row.filename} is noted to be in the bucket, and is not"
        local, synced = local + there[0], synced + there[1]
    return local, synced


def rows_of(home: Path) -> list[Output]:
    async def read() -> list[Output]:
        db = Database(home / "fleet.db")
        try:
            return (await db.read(lambda connection: page(connection, Wanted(), 10_000))).outputs
        finally:
            await db.close()

    return asyncio.run(read())


def test_no_picture_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "outputs").mkdir(parents=True)
    upgrade(home / "fleet.db")
    random.seed(7)
    made = 0
    moments: set[str] = set()
    with S3Server(tmp_path / "s3") as server:
        (server.folder / OUTPUTS).mkdir()
        server.store().check()
        for kill in range(KILLS):
            count = PICTURES if kill == 0 else ADDED
            add_pictures(home, range(made, made + count))
            made += count
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                    move(home, server, writing)
                finally:
                    os._exit(1)
            os.close(writing)
            wait_for(reading, random.choice((b"p", b"o", b"o")), random.randint(1, ADDED + 3))
            time.sleep(random.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
            assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "it ended by itself"
            os.close(reading)
            rows = rows_of(home)
            assert len(rows) == made
            local, synced = check(home, server, rows)
            moments.add(f"{'some' if 0 < local < made else 'all' if local else 'none'} local, {'some' if synced < made else 'all'} synced")
        assert len(moments) >= 3, f"the kills all fell into the same moment: {moments}"
