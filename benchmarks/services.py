"""Listing 10, 100 and 1,000 services, and 300 members, beside the raw call of the docker library, against the same engine.

The engine is a stand-in on a Unix socket that answers with as many as are asked of it, in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import docker

from benchmarks.http_client import Connection
from benchmarks.servers import control_plane

SIZES = (10, 100, 1_000)
MEMBERS = 300
CALLS = 40


def _service(number: int) -> dict[str, Any]:
    template = {
        "ContainerSpec": {"Image": f"192.0.2.10:5000/web:{number}", "Env": ["COLOUR=red"] * 5},
        "Placement": {"Constraints": ["node.labels.cluster==vision"]}, "RestartPolicy": {"Condition": "any"},
    }  # fmt: skip
    spec = {"Name": f"service-{number}", "Labels": {}, "TaskTemplate": template, "Mode": {"Replicated": {"Replicas": 2}}}
    return {"ID": f"{number:025d}", "Version": {"Index": 1}, "Spec": spec, "ServiceStatus": {"RunningTasks": 2, "DesiredTasks": 2}}


def _member(number: int) -> dict[str, Any]:
    found = {
        "ID": f"n{number:024d}", "Version": {"Index": 1}, "Status": {"State": "ready", "Addr": "192.0.2.10"},
        "Spec": {"Role": "worker" if number else "manager", "Availability": "active", "Labels": {"fleet.node": f"n{number}"}},
        "Description": {"Hostname": f"n{number}", "Platform": {"Architecture": "aarch64", "OS": "linux"}, "Resources": {"NanoCPUs": 8e9}},
    }  # fmt: skip
    return found if number else {**found, "ManagerStatus": {"Leader": True, "Reachability": "reachable", "Addr": "192.0.2.10:2377"}}


def serve(path: str, services: int) -> None:
    """Be an engine with so many services."""
    swarm = {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": "n0", "Cluster": {"ID": "swarm"}}
    answers = {
        "version": json.dumps({"ApiVersion": "1.41"}), "info": json.dumps({"Swarm": swarm}), "swarm": json.dumps({"ID": "swarm"}),
        "services": json.dumps([_service(number) for number in range(services)]),
        "nodes": json.dumps([_member(number) for number in range(MEMBERS)]),
    }  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            body = answers[self.path.partition("?")[0].rpartition("/")[2]].encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

        def address_string(self) -> str:
            return ""

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    Server(path, Handler).serve_forever()


def report() -> dict[str, Any]:
    """Measure and print."""
    found = {}
    for services in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/engine.sock"
            engine = subprocess.Popen([sys.executable, "-m", "benchmarks.services", path, str(services)])
            try:
                while not Path(path).exists():
                    time.sleep(0.02)
                found[str(services)] = asyncio.run(_measure(Path(folder) / "home", path))
            finally:
                engine.terminate()
                engine.wait(10)
    print(f"{'listing':28} {'p50 ms':>8} {'raw SDK':>8} {'ratio':>6}")
    for services, figures in found.items():
        for what in ("services", "nodes") if services == str(SIZES[-1]) else ("services",):
            count = services if what == "services" else MEMBERS
            ours, raw = figures[what]["ours_ms"], figures[what]["raw_ms"]
            print(f"{f'{count} {what}':28} {ours:8.1f} {raw:8.1f} {ours / raw:6.2f}")
    growth = found[str(SIZES[-1])]["services"]["ours_ms"] / found[str(SIZES[0])]["services"]["ours_ms"]
    print(f"from {SIZES[0]} to {SIZES[-1]} services: {growth:.1f} times as long")
    return found


async def _measure(home: Path, path: str) -> dict[str, Any]:
    os.environ["FLEET_DOCKER_HOST"] = f"unix://{path}"
    client = docker.APIClient(f"unix://{path}")
    with control_plane(home) as server:
        http = await Connection("127.0.0.1", server.port).open()
        found = {}
        for what, call in (("services", lambda: client.services(status=True)), ("nodes", client.nodes)):
            request = Connection.prepare("GET", f"/api/swarm/{what}")
            ours, raw = [], []
            for _ in range(CALLS):  # they take turns, so that both meet the same machine
                started = time.perf_counter()
                status, body = await http.send(request)
                ours.append(time.perf_counter() - started)
                if status != 200 or not json.loads(body):
                    raise RuntimeError(f"{what}: {status} {body[:300]!r}")
                started = time.perf_counter()
                call()
                raw.append(time.perf_counter() - started)
            found[what] = {"ours_ms": statistics.median(ours) * 1e3, "raw_ms": statistics.median(raw) * 1e3}
        http.close()
    del os.environ["FLEET_DOCKER_HOST"]
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(sys.argv[1], int(sys.argv[2]))
    else:
        report()
