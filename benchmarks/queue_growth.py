"""What a submission costs as finished jobs pile up: ``POST /api/queue/jobs`` with none and with 100,000 of them stored."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.http_client import Connection
from benchmarks.queue_peers import own
from benchmarks.servers import control_plane
from fleet_api.jobs import repository
from fleet_api.jobs.models import Job
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade

STORED = (0, 100_000)
CHUNK = 5_000
SAMPLES = 500


async def _store(home: Path, number: int) -> None:
    db, now = Database(home / "fleet.db"), time.time()
    for begin in range(0, number, CHUNK):
        jobs = [_finished(seq, now) for seq in range(begin + 1, begin + CHUNK + 1)]
        await db.write(lambda connection, jobs=jobs: repository.add_many(connection, jobs))  # type: ignore[misc]
    await db.close()


def _finished(seq: int, now: float) -> Job:
    return Job(
        seq=seq, id=f"00000000-0000-0000-0000-{seq:012d}", door="queue", job_type="image_gen", state="completed", model="fleet-shapes",
        payload={"prompt": "x", "width": 512, "height": 512, "steps": 20}, attempt=1, created_at=now, queued_at=now, started_at=now,
        finished_at=now, result={"image_url": "/api/vision/outputs/x.png", "seed": seq},
    )  # fmt: skip


async def _latencies(home: Path, port: int) -> list[float]:
    agent = await own.Agent(port, await own.enrol(home, port, "bench")).open()
    connection = await Connection(own.HOST, port).open()
    request = Connection.prepare("POST", "/api/queue/jobs", own.JOB)
    found = []
    for _ in range(SAMPLES):
        begun = time.perf_counter()
        status, body = await connection.send(request)
        found.append(time.perf_counter() - begun)
        if status != 201:
            raise RuntimeError(f"{status}: {body[:200]!r}")
    connection.close()
    await agent.lease(0)
    return sorted(found)


def report() -> dict[str, Any]:
    """Measure and print."""
    found: dict[str, Any] = {}
    for number in STORED:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name) / "home"
            home.mkdir()
            upgrade(home / "fleet.db")
            asyncio.run(_store(home, number))
            with control_plane(home) as control:
                seconds = asyncio.run(_latencies(home, control.port))
        p50, p99 = seconds[len(seconds) // 2] * 1000, seconds[int(len(seconds) * 0.99)] * 1000
        found[str(number)] = {"p50_ms": p50, "p99_ms": p99}
        print(f"POST with {number:7,} finished jobs stored: {p50:.1f} ms p50, {p99:.1f} ms p99")
    return found


if __name__ == "__main__":
    report()
