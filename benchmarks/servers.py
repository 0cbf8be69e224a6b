"""The servers that are measured, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

BARE = """
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

class Body(BaseModel):
    job_type: str
    priority: str = "normal"
    payload: dict = {}

class Answer(BaseModel):
    job_id: str
    status: str
    job_type: str
    priority: str
    queue_position: int

app = FastAPI()

@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"hello": "world"}

@app.post("/api/queue/jobs", status_code=201)
async def jobs(body: Body) -> Answer:
    job_id = "550e8400-e29b-41d4-a716-446655440000"
    return Answer(job_id=job_id, status="queued", job_type=body.job_type, priority=body.priority, queue_position=1)

uvicorn.run(app, port=PORT, loop="uvloop", http="httptools", access_log=False, log_level="warning")
"""


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    port: int
    process: psutil.Process

    def processor_seconds(self) -> float:
        """Return the processor time that it has used so far."""
        used = self.process.cpu_times()
        return used.user + used.system

    def memory(self) -> int:
        """Return the bytes that it holds."""
        return self.process.memory_info().rss


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def bare_fastapi() -> Iterator[Server]:
    """A FastAPI endpoint that validates the same body and does nothing."""
    port = free_port()
    with _process([sys.executable, "-c", BARE.replace("PORT", str(port))], {}, port) as pid:
        yield Server(port, psutil.Process(pid))


@contextmanager
def control_plane(home: Path, **settings: str) -> Iterator[Server]:
    """``fleet serve`` on a data folder."""
    port = free_port()
    env = {"FLEET_HOME": str(home), "FLEET_PORT": str(port), "FLEET_LOG_LEVEL": "warning", **settings}
    with _process([sys.executable, "-m", "fleet_api", "serve"], env, port) as pid:
        yield Server(port, psutil.Process(pid))


@contextmanager
def _process(argv: list[str], env: dict[str, str], port: int) -> Iterator[int]:
    process = subprocess.Popen(argv, env={**os.environ, **env})
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"{argv} did not start") from None
                time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)
