"""A Docker Engine's answers for a swarm of any size, on a Unix socket: ``python -m benchmarks.engine_stand_in SOCKET SERVICES NODES``.

A real engine cannot hold a thousand services on one machine. What it answers has the size and shape of a real one's.
"""

from __future__ import annotations

import json
import re
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from typing import Any

WHEN = "2026-01-01T00:00:00.123456789Z"
VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}


def service(number: int) -> dict[str, Any]:
    """Return one service of two tasks, with what a deployment of ours asks for."""
    name = f"service-{number:04}"
    spec = {
        "Name": name,
        "Labels": {"fleet.cluster": "vision"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": f"registry.invalid:5000/{name}:1.0@sha256:{'0' * 64}",
                "Env": [f"SETTING_{each}=value of some length {each}" for each in range(10)],
                "Mounts": [{"Type": "bind", "Source": "/mnt/s3-models", "Target": "/models"}],
                "Isolation": "default",
            },
            "Resources": {
                "Limits": {},
                "Reservations": {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 1}}]},
            },
            "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000, "MaxAttempts": 0},
            "Placement": {"Constraints": ["node.labels.cluster==vision", "node.labels.nvidia==true"]},
            "ForceUpdate": 0,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 2}},
        "UpdateConfig": {
            "Parallelism": 1,
            "FailureAction": "rollback",
            "Monitor": 5_000_000_000,
            "MaxFailureRatio": 0,
            "Order": "stop-first",
        },
        "EndpointSpec": {
            "Mode": "vip",
            "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8000 + number, "PublishMode": "host"}],
        },
    }
    return {
        "ID": f"{number:025d}", "Version": {"Index": number}, "CreatedAt": WHEN, "UpdatedAt": WHEN, "Spec": spec, "PreviousSpec": spec,
        "Endpoint": {"Spec": spec["EndpointSpec"], "Ports": []},
        "ServiceStatus": {"RunningTasks": 2, "DesiredTasks": 2, "CompletedTasks": 0},
    }  # fmt: skip


def node(number: int) -> dict[str, Any]:
    """Return one member; the first manages the swarm."""
    manager = {"ManagerStatus": {"Leader": True, "Reachability": "reachable", "Addr": "192.0.2.1:2377"}} if number == 0 else {}
    name = f"agx{number}"
    plugins = [{"Type": kind, "Name": f"{kind.lower()}-{each}"} for kind in ("Log", "Network", "Volume") for each in range(6)]
    return {
        "ID": f"n{number:024d}", "Version": {"Index": number}, "CreatedAt": WHEN, "UpdatedAt": WHEN,
        "Spec": {
            "Labels": {"cluster": "vision", "nvidia": "true", "fleet.node": name}, "Role": "worker" if number else "manager",
            "Availability": "active",
        },
        "Description": {
            "Hostname": name, "Platform": {"Architecture": "aarch64", "OS": "linux"},
            "Resources": {
                "NanoCPUs": 12_000_000_000, "MemoryBytes": 2**36,
                "GenericResources": [{"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": "GPU-0"}}],
            },
            "Engine": {"EngineVersion": "20.10.24", "Plugins": plugins}, "TLSInfo": {"TrustRoot": "x" * 600},
        },
        "Status": {"State": "ready", "Addr": f"192.0.2.{number % 250 + 1}"}, **manager,
    }  # fmt: skip


def answers(services: int, nodes: int) -> dict[str, bytes]:
    """Return what each path answers."""
    members = [node(number) for number in range(nodes)]
    swarm = {
        "NodeID": members[0]["ID"], "LocalNodeState": "active", "ControlAvailable": True, "Cluster": {"ID": "c" * 25},
        "RemoteManagers": [{"NodeID": members[0]["ID"], "Addr": "192.0.2.1:2377"}],
    }  # fmt: skip
    bodies: dict[str, Any] = {
        "/version": VERSION,
        "/info": {"ID": "stand-in", "Name": "agx0", "ServerVersion": "20.10.24", "Swarm": swarm},
        "/swarm": {"ID": "c" * 25, "Version": {"Index": 1}, "Spec": {"Name": "default"}, "JoinTokens": {"Worker": "w", "Manager": "m"}},
        "/nodes": members,
        "/services": [service(number) for number in range(services)],
        "/tasks": [],
    }
    return {path: json.dumps(body).encode() for path, body in bodies.items()}


def serve(path: str, services: int, nodes: int) -> None:
    """Answer until the process is ended."""
    said = answers(services, nodes)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            body = said.get(re.sub(r"^/v[0-9.]+", "", self.path.split("?")[0]))
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body or b"{}")))
            self.end_headers()
            self.wfile.write(body or b"{}")

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(path, Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
