"""Sync of outputs beside ``rclone copy`` of the same files, to the same S3 server, in one run: pictures of 50 kB and of 1.5 MB."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade
from fleet_api.outputs import repository
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.models import Output
from fleet_api.outputs.sync.service import TRANSFERS, OutputSync
from fleet_api.storage.buckets import OUTPUTS
from tests.support.s3 import KEY, RCLONE, SECRET, KnownStore, S3Server

SETS = {"1,500 of 50 kB": (1500, 50_000), "300 of 1.5 MB": (300, 1_500_000)}
ROUNDS = 3
GOAL = 0.8


def _ours(home: Path, server: S3Server) -> float:
    async def run() -> float:
        db = Database(home / "fleet.db")
        files = OutputFiles(home / "outputs")
        files.prepare()
        sync = OutputSync(db, SystemClock(), files, KnownStore(server))  # type: ignore[arg-type]
        begun = time.perf_counter()
        report = await sync.sync()
        seconds = time.perf_counter() - begun
        if report.failed or report.detail:
            raise RuntimeError(str(report))
        await sync.close()
        await db.close()
        return seconds

    return asyncio.run(run())


def _rclone(home: Path, server: S3Server) -> float:
    remote = f":s3,provider=Other,access_key_id={KEY},secret_access_key={SECRET},endpoint='{server.url}':{OUTPUTS}"
    begun = time.perf_counter()
    subprocess.run(
        [RCLONE, "copy", "--config", "/dev/null", "--transfers", str(TRANSFERS), "--include", "*.png", str(home / "outputs"), remote],
        check=True,
    )
    return time.perf_counter() - begun


def _rows(home: Path) -> None:
    async def write() -> None:
        db = Database(home / "fleet.db")
        found = [
            Output(filename=path.name, job_id="", node_id="", bytes=path.stat().st_size, created_at=time.time(),
                   sha256=hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted((home / "outputs").glob("*.png"))
        ]  # fmt: skip
        await db.write(lambda connection: repository.add_all(connection, found))
        await db.close()

    (home / "fleet.db").unlink(missing_ok=True)
    upgrade(home / "fleet.db")
    asyncio.run(write())


def _measure(count: int, size: int) -> dict[str, float]:
    times: dict[str, list[float]] = {"fleet": [], "rclone": []}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "outputs").mkdir()
        for number in range(count):
            (home / "outputs" / f"image_{number:05}.png").write_bytes(os.urandom(size))
        for number in range(ROUNDS):
            for who, run in (("fleet", _ours), ("rclone", _rclone))[:: 1 if number % 2 else -1]:
                _rows(home)
                with S3Server(home / "s3") as server:
                    server.store().make_bucket(OUTPUTS)
                    times[who].append(run(home, server))
                shutil.rmtree(home / "s3")
    return {who: count / statistics.median(each) for who, each in times.items()}


def report() -> dict[str, Any]:
    """Measure and print."""
    found = {name: _measure(*kind) for name, kind in SETS.items()}
    print(f"{'files/s to one S3 server':32}{'sync':>10}{'rclone':>10}{'ratio':>10}")
    for name, rates in found.items():
        rates["ratio"] = rates["fleet"] / rates["rclone"]
        print(f"  {name:30}{rates['fleet']:10.0f}{rates['rclone']:10.0f}{rates['ratio']:10.2f}  (goal {GOAL})")
    return found


if __name__ == "__main__":
    report()
