"""A lab and a control plane that manages it, for benchmarks; wants a Docker Engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.servers import free_port

FLEET = [sys.executable, "-m", "fleet_api"]
LAB = "bench"


class NoEngine(Exception):
    """No Docker Engine answers."""


@dataclass
class LabFleet:
    """Fresh nodes, a client of the control plane, and its process."""

    nodes: list[dict[str, Any]]
    api: httpx.Client
    pid: int

    def join(self, node: dict[str, Any]) -> str:
        """Start to onboard a node; return the operation's id."""
        body = {"name": node["name"], "username": node["user"], "password": node["password"]}
        credential = self.api.post("/api/vault", json=body).raise_for_status().json()["id"]
        made = self.api.post("/api/network/join", json={"ip": node["ip"], "credential_id": credential}).raise_for_status()
        return str(made.json()["operation_id"])

    def until_ended(self, operation: str) -> None:
        """Wait for an operation. Raises RuntimeError where it did not succeed."""
        while (row := self.api.get(f"/api/operations/{operation}").json())["state"] in ("queued", "running"):
            time.sleep(0.2)
        if row["state"] != "succeeded":
            raise RuntimeError(row["reason"])


@contextmanager
def lab_fleet(size: int, *options: str) -> Iterator[LabFleet]:
    """Bring both up and take both down. Raises NoEngine."""
    with tempfile.TemporaryDirectory() as folder, _lab(size, *options) as nodes:
        address = f"{nodes[0]['ip'].rsplit('.', 1)[0]}.1"
        port = free_port()
        environment = {**os.environ, "FLEET_HOME": str(Path(folder) / "home"), "FLEET_HOST": address, "FLEET_PORT": str(port)}
        environment |= {"FLEET_AUTH": "off", "FLEET_TLS": "off", "FLEET_ALLOWED_NETWORKS": f"127.0.0.0/8,{address}/24"}
        environment["FLEET_DOCKER_HOST"] = f"unix://{folder}/none"  # this machine's own engine is no part of it
        server = subprocess.Popen([*FLEET, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=f"http://{address}:{port}", timeout=120, trust_env=False) as api:
                _until_ready(api)
                yield LabFleet(nodes, api, server.pid)
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def _lab(size: int, *options: str) -> Iterator[list[dict[str, Any]]]:
    words = [*FLEET, "lab", "up", "--name", LAB, "--nodes", str(size), "--json", *options]
    made = subprocess.run(words, capture_output=True, text=True)
    if made.returncode:
        raise NoEngine(made.stderr.strip())
    try:
        yield json.loads(made.stdout)
    finally:
        subprocess.run([*FLEET, "lab", "down", "--name", LAB], capture_output=True)


def _until_ready(api: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if api.get("/health").is_success:
                return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)
