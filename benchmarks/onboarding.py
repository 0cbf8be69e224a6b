"""Onboarding 1, 3 and 6 fresh lab nodes: seconds, and the controller's processor time for each node, which should stay flat.

Wants a Docker Engine. The nodes share this machine's cores, so the seconds say little of boards that have their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.servers import free_port

FLEET = [sys.executable, "-m", "fleet_api"]
SIZES = (1, 3, 6)
LAB = "bench"


def report() -> dict[str, Any]:
    """Measure and print; returns nothing where no engine answers."""
    try:
        found = {size: _measure(size) for size in SIZES}
    except NoEngine as error:
        print(f"onboarding: left out: {error}")
        return {}
    print(f"{'onboarding lab nodes':24} {'seconds':>8} {'controller CPU s a node':>24} {'beside':>8}")
    base = found[SIZES[0]]["cpu_each"]
    for size, figures in found.items():
        print(f"{size:<24} {figures['seconds']:8.1f} {figures['cpu_each']:24.2f} {figures['cpu_each'] / base:8.2f}")
    return {str(size): figures for size, figures in found.items()}


class NoEngine(Exception):
    """No Docker Engine answers."""


def _measure(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, _lab(size) as nodes:
        address = f"{nodes[0]['ip'].rsplit('.', 1)[0]}.1"
        port = free_port()
        home = Path(folder) / "home"
        environment = {**os.environ, "FLEET_HOME": str(home), "FLEET_HOST": address, "FLEET_PORT": str(port), "FLEET_AUTH": "off"}
        environment |= {"FLEET_TLS": "off", "FLEET_ALLOWED_NETWORKS": f"127.0.0.0/8,{address}/24"}
        server = subprocess.Popen([*FLEET, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=f"http://{address}:{port}", timeout=60, trust_env=False) as api:
                _until_ready(api)
                before = _cpu(server.pid)
                started = time.perf_counter()
                operations = [_join(api, node) for node in nodes]
                for operation in operations:
                    _until_ended(api, operation)
                took = time.perf_counter() - started
                return {"seconds": took, "cpu_each": (_cpu(server.pid) - before) / size}
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def _lab(size: int) -> Iterator[list[dict[str, Any]]]:
    made = subprocess.run([*FLEET, "lab", "up", "--name", LAB, "--nodes", str(size), "--json"], capture_output=True, text=True)
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


def _join(api: httpx.Client, node: dict[str, Any]) -> str:
    made = api.post("/api/vault", json={"name": node["name"], "username": node["user"], "password": node["password"]}).json()
    return str(api.post("/api/network/join", json={"ip": node["ip"], "credential_id": made["id"]}).json()["operation_id"])


def _until_ended(api: httpx.Client, operation: str) -> None:
    while (row := api.get(f"/api/operations/{operation}").json())["state"] in ("queued", "running"):
        time.sleep(0.2)
    if row["state"] != "succeeded":
        raise RuntimeError(row["reason"])


def _cpu(pid: int) -> float:
    """Return the processor seconds of the control plane and of every child that it has seen out."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


if __name__ == "__main__":
    report()
