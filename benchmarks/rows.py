"""Five typical rows with 300 nodes and 1,000 waiting jobs: requests a second, and processor time a request, beside bare FastAPI.

The bare endpoint answers a constant; each row and it take turns in the same run. One of the rows is called with a key as well.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fleet import NODES, enrol_many
from benchmarks.http_client import Connection, rate
from benchmarks.servers import Server, bare_fastapi, control_plane
from fleet_api.access.callers import Role
from fleet_api.access.keys import create_key
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database

HOST = "127.0.0.1"
CONNECTIONS = 32
SECONDS = 2.0
WAITING = 1_000
JOB = {"job_type": "image_gen", "payload": {"prompt": "a red circle on a blue background"}}


async def measure() -> dict[str, Any]:
    """Return requests a second and microseconds of processor time a request, by row."""
    with tempfile.TemporaryDirectory() as folder, bare_fastapi() as bare, control_plane(Path(folder)) as fleet:
        agents = await enrol_many(Path(folder), fleet.port)
        caller = await Connection(HOST, fleet.port).open()
        _, body = await caller.send(Connection.prepare("POST", "/api/queue/jobs/batch", {"jobs": [JOB] * WAITING}))
        job_id = json.loads(body)["job_ids"][0]
        caller.close()
        key = {"Authorization": f"Bearer {await _key(Path(folder))}"}
        prepare = Connection.prepare
        beat = {"incarnation": "bench", "metrics": {"cpu": 12.5, "memory": 40.0, "gpu": 80.0}, "holding": []}
        rows = {
            "GET /api/fleet/capabilities": (prepare("GET", "/api/fleet/capabilities"), 200),
            "the same, with a key": (prepare("GET", "/api/fleet/capabilities", headers=key), 200),
            "GET /api/vision/jobs/{id}": (prepare("GET", f"/api/vision/jobs/{job_id}"), 200),
            "GET /api/vision/queue?limit=50": (prepare("GET", "/api/vision/queue?limit=50"), 200),
            f"GET /api/nodes ({NODES} nodes)": (prepare("GET", "/api/nodes"), 200),
            "POST /api/agents/beat": (prepare("POST", "/api/agents/beat", beat, agents[0]), 200),
        }
        found: dict[str, Any] = {"bare FastAPI": await _one(bare, prepare("GET", "/hello"), 200)}
        for name, (request, expected) in rows.items():
            found[name] = await _one(fleet, request, expected)
            beside = await _one(bare, prepare("GET", "/hello"), 200)
            found[name]["ratio"] = found[name]["per_second"] / beside["per_second"]
    return found


async def _one(server: Server, request: bytes, expected: int) -> dict[str, float]:
    quick = await rate(HOST, server.port, request, 200, CONNECTIONS, expected)
    count = max(200, int(quick * SECONDS))
    before = server.processor_seconds()
    per_second = await rate(HOST, server.port, request, count, CONNECTIONS, expected)
    return {"per_second": per_second, "processor_us": (server.processor_seconds() - before) / count * 1e6}


async def _key(home: Path) -> str:
    db = Database(home / "fleet.db")
    try:
        return (await create_key(db, SystemClock(), "bench", Role.ADMIN))[1]
    finally:
        await db.close()


def report() -> dict[str, Any]:
    """Measure and print."""
    found = asyncio.run(measure())
    print(f"{'row':36} {'requests/s':>10} {'beside bare':>11} {'us each':>8}")
    for name, figures in found.items():
        print(f"{name:36} {figures['per_second']:10.0f} {figures.get('ratio', 1):11.2f} {figures['processor_us']:8.0f}")
    return found


if __name__ == "__main__":
    report()
