"""Real agents, each a process of its own, that fetch from a model store; and models to fetch."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.live import Live
from tests.support.tiny_model import make_tiny_model


def until(found: Callable[[], Any], seconds: float = 60, what: str = "it") -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.05)
    return value


def model_folder(folder: Path, name: str, megabytes: int = 0, seed: int = 0) -> Path:
    """Write a model whose manifest tells of so many megabytes more than it needs."""
    made = make_tiny_model(folder, seed=seed, name=name)
    if megabytes:
        ballast = made / "ballast.bin"
        ballast.write_bytes(os.urandom(1024 * 1024) * megabytes)
        manifest = json.loads((made / "manifest.json").read_text())
        manifest["sha256"]["ballast.bin"] = hashlib.sha256(ballast.read_bytes()).hexdigest()
        (made / "manifest.json").write_text(json.dumps(manifest))
    return made


@dataclass
class StoreAgent:
    """``fleet-worker run`` with a cache and, unless told otherwise, open to its neighbours."""

    api: Live
    name: str
    folder: Path
    model: Path
    limit_gib: float = 1.0
    share: str = "127.0.0.1:0"
    process: subprocess.Popen[bytes] | None = None

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def log(self) -> str:
        return self.folder.with_suffix(".log").read_text()

    def start(self) -> StoreAgent:
        env = {
            **os.environ, "FLEET_AGENT_URL": self.api.url, "FLEET_AGENT_STATE_DIR": str(self.folder), "FLEET_AGENT_THREADS": "1",
            "FLEET_AGENT_MODELS": str(self.model), "FLEET_AGENT_SHARE": self.share, "FLEET_AGENT_CACHE_LIMIT_GIB": str(self.limit_gib),
        }  # fmt: skip
        if not (self.folder / "identity.json").exists():
            self._enrol()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpu_inference.agent", "run"], env=env, stdout=subprocess.DEVNULL,
            stderr=self.folder.with_suffix(".log").open("ab"),
        )  # fmt: skip
        return self

    def _enrol(self) -> None:
        """As a machine of its own, which several agents on one are not."""
        token = self.api.call(self.api.fleet.enrolment.token(self.name, 3600))
        body = {"token": token, "hostname": self.name, "machine_id": self.name}
        enrolled = httpx.post(f"{self.api.url}/api/agents/enrol", json=body, trust_env=False).json()
        self.folder.mkdir(mode=0o700)
        (self.folder / "identity.json").write_text(json.dumps({name: enrolled[name] for name in ("node_id", "credential")}))

    def ready(self) -> StoreAgent:
        """Wait until it has said what it can serve."""
        until(lambda: self.node is not None and self.node["online"] and self.models, 60, f"agent {self.name}")
        return self

    @property
    def node(self) -> dict[str, Any] | None:
        found = {each.id: each for each in self.api.fleet.nodes.all()}.get(self.name)
        return None if found is None else {"online": found.online, "live": found}

    @property
    def models(self) -> list[str]:
        return [each.name for each in self.api.fleet.nodes.get(self.name).capabilities.models]

    @property
    def loras(self) -> list[str]:
        return [each.name for each in self.api.fleet.nodes.get(self.name).capabilities.loras]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


def switch(api: Live, agent: StoreAgent, model: str) -> dict[str, Any]:
    answer = httpx.post(f"{api.url}/api/vision/models/switch/{agent.name}", json={"model": model}, trust_env=False)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
