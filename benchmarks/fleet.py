"""A fleet of agents that beat and do nothing else."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

from benchmarks.http_client import Connection
from fleet_api.access.enrolment import create_token
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database

HOST = "127.0.0.1"
NODES = 300
CAPABILITIES = {"job_types": ["image_gen"], "models": [{"name": "fleet-shapes"}], "samplers": ["euler"]}


async def enrol_many(home: Path, port: int, number: int = NODES) -> list[dict[str, str]]:
    """Enrol agents; return the headers that each calls with."""
    db = Database(home / "fleet.db")
    tokens = [await create_token(db, SystemClock()) for _ in range(number)]
    await db.close()
    connection = await Connection(HOST, port).open()
    found = []
    for index, token in enumerate(tokens):
        body = {"token": token, "hostname": f"node-{index}", "machine_id": uuid.uuid4().hex}
        _, answer = await connection.send(Connection.prepare("POST", "/api/agents/enrol", body))
        headers = {"Authorization": f"Bearer {json.loads(answer)['credential']}"}
        lease = {"incarnation": "bench", "request_id": uuid.uuid4().hex, "capabilities": CAPABILITIES, "wait_seconds": 0}
        await connection.send(Connection.prepare("POST", "/api/agents/lease", lease, headers))
        found.append(headers)
    connection.close()
    return found


async def beat_for_ever(port: int, agents: list[dict[str, str]], seconds: float = 1.0) -> None:
    """Let each agent beat once in ``seconds``, spread evenly."""

    async def one(index: int, headers: dict[str, str]) -> None:
        connection = await Connection(HOST, port).open()
        await asyncio.sleep(seconds * index / len(agents))
        while True:
            metrics = {"cpu": index % 100, "memory": 40.0, "gpu": 80.0, "gpu_memory": 2048, "temperature": 51.5, "disk": 30.0}
            body = {"incarnation": "bench", "metrics": metrics, "holding": []}
            await connection.send(Connection.prepare("POST", "/api/agents/beat", body, headers))
            await asyncio.sleep(seconds)

    async with asyncio.TaskGroup() as group:
        for index, headers in enumerate(agents):
            group.create_task(one(index, headers))
