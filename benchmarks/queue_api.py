"""``POST /api/queue/jobs`` (answered after the fsync) beside a bare FastAPI endpoint, and the time from submit to start.

The two servers take turns, three rounds each; the medians are compared. The start is when the agent's long poll is answered.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import uuid
from pathlib import Path
from typing import Any

from benchmarks.http_client import Connection, rate
from benchmarks.servers import bare_fastapi, control_plane
from fleet_api.access.enrolment import create_token
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database

HOST = "127.0.0.1"
ROUNDS = 3
REQUESTS = 4_000
CONNECTIONS = 64
SAMPLES = 300
JOB = {"job_type": "image_gen", "payload": {"prompt": "a red circle on a blue background"}}
CAPABILITIES = {"job_types": ["image_gen"], "models": [{"name": "fleet-shapes"}], "samplers": ["euler"]}


async def measure() -> dict[str, Any]:
    """Return rates in requests a second and latencies in milliseconds."""
    with tempfile.TemporaryDirectory() as folder, bare_fastapi() as beside, control_plane(Path(folder)) as control:
        bare, port = beside.port, control.port
        agent = await _enrol(Path(folder), port)
        latencies = await _latencies(port, agent)
        request = Connection.prepare("POST", "/api/queue/jobs", JOB)
        await rate(HOST, bare, request, 500, CONNECTIONS, 201)
        await rate(HOST, port, request, 500, CONNECTIONS, 201)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(await rate(HOST, bare, request, REQUESTS, CONNECTIONS, 201))
            ours.append(await rate(HOST, port, request, REQUESTS, CONNECTIONS, 201))
    latencies.sort()
    return {
        "ours_per_second": statistics.median(ours),
        "bare_per_second": statistics.median(theirs),
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "start_p50_ms": latencies[len(latencies) // 2] * 1000,
        "start_p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
    }


async def _enrol(home: Path, port: int) -> dict[str, str]:
    db = Database(home / "fleet.db")
    token = await create_token(db, SystemClock())
    await db.close()
    connection = await Connection(HOST, port).open()
    _, body = await connection.send(Connection.prepare("POST", "/api/agents/enrol", {"token": token, "hostname": "bench"}))
    headers = {"Authorization": f"Bearer {json.loads(body)['credential']}"}
    await connection.send(_poll(headers, wait=0))
    connection.close()
    return headers


def _poll(headers: dict[str, str], wait: float) -> bytes:
    body = {"incarnation": "bench", "request_id": uuid.uuid4().hex, "capabilities": CAPABILITIES, "wait_seconds": wait}
    return Connection.prepare("POST", "/api/agents/lease", body, headers)


async def _latencies(port: int, headers: dict[str, str]) -> list[float]:
    """Seconds from sending a job to an idle queue until the agent has it."""
    loop = asyncio.get_running_loop()
    caller, agent = await Connection(HOST, port).open(), await Connection(HOST, port).open()
    submit = Connection.prepare("POST", "/api/queue/jobs", JOB)
    seconds = []
    for _ in range(SAMPLES):
        waiting = asyncio.create_task(agent.send(_poll(headers, wait=20)))
        await asyncio.sleep(0.01)
        started = loop.time()
        submitting = asyncio.create_task(caller.send(submit))
        _, body = await waiting
        seconds.append(loop.time() - started)
        await submitting
        job_id = json.loads(body)["lease"]["job_id"]
        await caller.send(Connection.prepare("DELETE", f"/api/queue/jobs/{job_id}"))
    caller.close()
    agent.close()
    return seconds


def report() -> dict[str, Any]:
    """Measure and print."""
    found = asyncio.run(measure())
    print(f"POST /api/queue/jobs   {found['ours_per_second']:8.0f}/s, acknowledged after fsync")
    print(f"bare FastAPI           {found['bare_per_second']:8.0f}/s")
    print(f"ratio                  {found['ratio']:8.2f}    (goal 0.50)")
    print(f"submit to start, idle  {found['start_p50_ms']:8.1f} ms p50, {found['start_p99_ms']:.1f} ms p99    (goal 5 and 25)")
    return found


if __name__ == "__main__":
    report()
