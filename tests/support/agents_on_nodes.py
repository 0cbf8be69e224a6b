"""Real agents with engines at nodes' addresses: processes of this machine in a node's network; nothing is installed on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.lab import Node
from tests.support.manager import Manager, ok

SHARE_PORT = 8081


@dataclass
class AgentOnNode:
    """One agent, whose neighbours may fetch models from it."""

    manager: Manager
    node: Node
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def node_id(self) -> str:
        return f"at-{self.node.name}"

    @property
    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.folder.with_suffix(".log").read_text().splitlines() if line.startswith("{")]

    def start(self) -> None:
        with self.manager.client() as api:
            token = ok(api.post("/api/agents/tokens", json={"node_id": self.node_id}))["token"]
            body = {"token": token, "hostname": self.node_id, "machine_id": self.node_id}
            enrolled = ok(api.post("/api/agents/enrol", json=body))
        self.folder.mkdir(mode=0o700)
        (self.folder / "identity.json").write_text(json.dumps({name: enrolled[name] for name in ("node_id", "credential")}))
        pid = subprocess.run(
            ["docker", "inspect", "-f", "{{.State.Pid}}", self.node.name], check=True, capture_output=True, text=True
        ).stdout.strip()
        env = {
            **os.environ, "FLEET_AGENT_URL": self.manager.url, "FLEET_AGENT_CA_FILE": str(self.manager.home / "tls" / "ca.crt"),
            "FLEET_AGENT_STATE_DIR": str(self.folder), "FLEET_AGENT_THREADS": "1", "FLEET_AGENT_SHARE": f"{self.node.ip}:{SHARE_PORT}",
        }  # fmt: skip
        self.process = subprocess.Popen(
            ["nsenter", "-t", pid, "-n", sys.executable, "-m", "gpu_inference.agent", "run"], env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.folder.with_suffix(".log").open("ab"),
        )  # fmt: skip

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)


@contextmanager
def agents_on(manager: Manager, nodes: list[Node], folder: Path) -> Iterator[list[AgentOnNode]]:
    """Run an agent on each node while the context is open."""
    agents = [AgentOnNode(manager, node, folder / node.name) for node in nodes]
    try:
        for agent in agents:
            agent.start()
        yield agents
    finally:
        for agent in agents:
            agent.stop()
