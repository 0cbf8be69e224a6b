"""Our side: ``fleet serve``, one worker process that does nothing, and a client over HTTP.

As the peers' ``drive.py``, with the same figures. A worker process of ours does one job a device at a time: it is measured with one device
and with eight. A job of ours ends with an output: the agent sends a picture of 64 x 64 pixels and says that it is complete, which the
peers' jobs do not.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from benchmarks.http_client import Connection, rate
from fleet_api.access.enrolment import create_token
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database

HOST = "127.0.0.1"
CONNECTIONS = 64
BATCH = 100
JOB = {"job_type": "image_gen", "payload": {"prompt": "x", "width": 64, "height": 64, "steps": 1}}
CAPABILITIES = {"job_types": ["image_gen"], "models": [{"name": "fleet-shapes"}], "samplers": ["euler"], "loads": True}
LEASE_PATIENCE = 60.0


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    return buffer.getvalue()


class Agent:
    """One agent on one connection."""

    def __init__(self, port: int, credential: str) -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {credential}"}
        self._incarnation = uuid.uuid4().hex
        self._png = _png()
        self._digest = hashlib.sha256(self._png).hexdigest()

    async def open(self) -> Agent:
        """Connect, and say what it can."""
        self._connection = await Connection(HOST, self._port).open()
        await self.lease(0)
        return self

    async def lease(self, wait: float) -> dict[str, Any] | None:
        """Ask for a job."""
        body = {
            "incarnation": self._incarnation, "request_id": uuid.uuid4().hex, "capabilities": CAPABILITIES, "wait_seconds": wait,
            "loaded_model": "fleet-shapes",
        }  # fmt: skip
        _, answer = await self._connection.send(Connection.prepare("POST", "/api/agents/lease", body, self._headers))
        found: dict[str, Any] | None = json.loads(answer)["lease"]
        return found

    async def finish(self, lease: dict[str, Any]) -> None:
        """Deliver the picture and end the job."""
        held = {"incarnation": self._incarnation, "job_id": lease["job_id"], "attempt": lease["attempt"]}
        lines = [
            f"PUT /api/agents/uploads/{lease['job_id']}/{lease['attempt']} HTTP/1.1", "Host: 127.0.0.1",
            f"Content-Length: {len(self._png)}", f"X-Content-SHA256: {self._digest}",
            *(f"{name}: {value}" for name, value in self._headers.items()),
        ]  # fmt: skip
        await self._connection.send("\r\n".join(lines).encode() + b"\r\n\r\n" + self._png)
        payload = lease["payload"]
        result = {
            "seed": payload["seed"], "model": payload["model"], "sampler": "euler", "steps": 1, "width": 64, "height": 64,
            "native_width": 64, "native_height": 64, "generation_time": 0.0,
        }  # fmt: skip
        body = {**held, "sha256": self._digest, "result": result}
        status, answer = await self._connection.send(Connection.prepare("POST", "/api/agents/complete", body, self._headers))
        if status != 204:
            raise RuntimeError(f"complete: {status} {answer!r}")


async def enrol(home: Path, port: int, name: str) -> str:
    """Return a new agent's credential."""
    db = Database(home / "fleet.db")
    token = await create_token(db, SystemClock())
    await db.close()
    connection = await Connection(HOST, port).open()
    body = {"token": token, "hostname": name, "machine_id": name}
    _, answer = await connection.send(Connection.prepare("POST", "/api/agents/enrol", body))
    connection.close()
    return str(json.loads(answer)["credential"])


async def work(port: int, credentials: list[str], trace: BinaryIO) -> None:
    """Work as the one worker process, a device a credential, writing when each job starts."""
    await asyncio.gather(*(_device(port, each, trace) for each in credentials))


async def _device(port: int, credential: str, trace: BinaryIO) -> None:
    agent = await Agent(port, credential).open()
    while True:
        lease = await agent.lease(20)
        if lease is not None:
            trace.write(f"{time.time():19.6f}\n".encode())
            await agent.finish(lease)


async def many(port: int, number: int, wait_for: Callable[[int], None]) -> dict[str, float]:
    """Submit so many jobs and wait until all have started; seconds."""
    begun = time.time()
    request = Connection.prepare("POST", "/api/queue/jobs", JOB)
    await rate(HOST, port, request, number, CONNECTIONS, 201)
    submitted = time.time() - begun
    await asyncio.to_thread(wait_for, number)
    return {"submitted": submitted, "done": time.time() - begun}


async def batches(port: int, number: int) -> float:
    """Return jobs a second, submitted a hundred at a time on four connections."""
    request = Connection.prepare("POST", "/api/queue/jobs/batch", {"jobs": [JOB] * BATCH})
    return BATCH * await rate(HOST, port, request, number // BATCH, 4, 201)


async def latencies(port: int, number: int, starts: Callable[[], int], last: Callable[[], float]) -> list[float]:
    """Return the seconds from the submission to an idle queue until the start, one after the other."""
    connection = await Connection(HOST, port).open()
    request = Connection.prepare("POST", "/api/queue/jobs", JOB)
    found = []
    for _ in range(number):
        before, begun = starts(), time.time()
        await connection.send(request)
        while starts() <= before:  # noqa: ASYNC110 (the other process says it by a file)
            await asyncio.sleep(0.0005)
        await asyncio.sleep(0.02)
        found.append(last() - begun)
    connection.close()
    return found


async def recovery(home: Path, port: int) -> float:
    """Return the seconds from the death of a job's agent until another has the job."""
    dying, other = [await Agent(port, await enrol(home, port, name)).open() for name in ("dying", "other")]
    connection = await Connection(HOST, port).open()
    asking = asyncio.create_task(dying.lease(20))
    await asyncio.sleep(0.1)
    await connection.send(Connection.prepare("POST", "/api/queue/jobs", JOB))
    if await asking is None:
        raise RuntimeError("the first agent got no job")
    begun = time.time()
    while time.time() - begun < LEASE_PATIENCE:
        lease = await other.lease(2)  # an agent that says nothing for longer counts as offline
        if lease is not None:
            await other.finish(lease)
            return time.time() - begun
    raise RuntimeError("the job was not given to another agent")


if __name__ == "__main__":
    with open(sys.argv[3], "ab", buffering=0) as file:
        asyncio.run(work(int(sys.argv[1]), sys.argv[2].split(","), file))
