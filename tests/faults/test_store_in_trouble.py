"""The S3 store stops in the middle, disagrees about the time, or is full; so is our own disk. Nothing is lost, and each has a sentence."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import botocore.auth
import pytest

from fleet_api.adapters.object_store.types import StoreAway, StoreFull, StoreRefuses
from fleet_api.adapters.object_store.verified import fetch
from fleet_api.errors import Unavailable
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade
from fleet_api.outputs import repository
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.models import Output
from fleet_api.outputs.sync.service import OutputSync
from fleet_api.storage.buckets import OUTPUTS
from tests.support.s3 import KnownStore, S3Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

PICTURES = 300


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3") as running:
        running.store().make_bucket(OUTPUTS)
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False).returncode:
        assert not os.environ.get("FLEET_REQUIRE_NETWORK"), "the small disk cannot be made"
        pytest.skip("making a small disk wants root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def a_file(folder: Path, size: int) -> tuple[Path, str]:
    path = folder / f"{random.getrandbits(64):x}"
    path.write_bytes(random.randbytes(size))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_store_stops_in_the_middle_of_a_sync_and_comes_back(tmp_path: Path, server: S3Server) -> None:
    home = tmp_path / "home"
    (home / "outputs").mkdir(parents=True)
    upgrade(home / "fleet.db")

    async def run() -> None:
        db = Database(home / "fleet.db")
        files = OutputFiles(home / "outputs")
        files.prepare()
        rows = []
        for number in range(PICTURES):
            path, sha256 = a_file(home / "outputs", 50_000)
            path.rename(path.with_name(name := f"image_{number:05}.png"))
            rows.append(Output(filename=name, job_id="", node_id="", bytes=50_000, sha256=sha256, created_at=time.time()))
        await db.write(lambda connection: repository.add_all(connection, rows))
        sync = OutputSync(db, SystemClock(), files, KnownStore(server))  # type: ignore[arg-type]
        running = asyncio.create_task(sync.sync())
        while sync.progress is None or not sync.progress.done:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.to_thread(server.stop)
        report = await running
        assert 0 < report.uploaded < PICTURES
        assert "does not answer" in str(report.detail)
        assert sync.trouble == report.detail
        with pytest.raises(Unavailable, match="Nothing was sent"):
            await sync.sync()
        with pytest.raises(Unavailable, match="Nothing was deleted"):
            await sync.cleanup(0)
        assert len(list((home / "outputs").glob("*.png"))) == PICTURES
        await asyncio.to_thread(server.start)
        both = await asyncio.gather(sync.sync(), sync.sync())
        assert both[0] is both[1], "who asks while one runs is told of that one"
        assert both[0].uploaded == PICTURES - report.uploaded
        cleaned = await sync.cleanup(0)
        assert (cleaned.deleted, cleaned.kept_unsynced) == (PICTURES, 0)
        for row in rows:
            assert hashlib.sha256((server.folder / OUTPUTS / row.filename).read_bytes()).hexdigest() == row.sha256
        await sync.close()
        await db.close()

    asyncio.run(run())


def test_a_clock_that_is_20_minutes_off_is_named(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sha256 = a_file(tmp_path, 1000)

    def late(remove_tzinfo: bool = True) -> datetime.datetime:
        there = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=20)
        return there.replace(tzinfo=None) if remove_tzinfo else there

    monkeypatch.setattr(botocore.auth, "get_current_datetime", late)
    with pytest.raises(StoreRefuses, match="clock"):
        server.store().put(OUTPUTS, "x", path, sha256)
    monkeypatch.undo()
    server.store().put(OUTPUTS, "x", path, sha256)


def test_the_stores_disk_is_full(small_disk: Path, tmp_path: Path) -> None:
    with S3Server(small_disk) as server:
        store = server.store()
        store.make_bucket(OUTPUTS)
        path, sha256 = a_file(tmp_path, 3_000_000)
        with pytest.raises((StoreAway, StoreFull), match="object store at"):
            store.put(OUTPUTS, "x", path, sha256)
        found = store.head(OUTPUTS, "x")
        assert found is None or found.size != 3_000_000


def test_our_own_disk_is_full(server: S3Server, small_disk: Path, tmp_path: Path) -> None:
    path, sha256 = a_file(tmp_path, 3_000_000)
    server.store().put(OUTPUTS, "x", path, sha256)
    with pytest.raises(OSError, match="No space left"):
        fetch(server.store(), OUTPUTS, "x", small_disk / "x", 3_000_000, sha256)
    assert not list(small_disk.iterdir()), "nothing is left of it"
