"""One control plane and several agents with simulated engines on loopback, each process of its own, and who restarts them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from gpu_inference.agent.files import make_private_dir
from gpu_inference.agent.identity import Identity, save

READY_SECONDS = 60.0
MODELS = ("sim-a", "sim-b")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SimFleet:
    """``api`` and ``agents`` are processes that :meth:`supervise` starts again when they have ended."""

    def __init__(self, folder: Path, agents: int, job_seconds: float, load_seconds: float = 0.5, **env: str) -> None:
        self.home, self.port = folder / "home", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.names = [f"sim{number}" for number in range(agents)]
        self.folder = folder
        self.agent_urls = dict.fromkeys(self.names, self.url)
        self.agent_env = {"FLEET_AGENT_STEP_TIMEOUT": "8", **env}
        self.agent_module = "gpu_inference.agent"
        self.table = folder / "table.json"
        rows = [{"name": name, "load_seconds": load_seconds, "seconds_per_megapixel_step": job_seconds / 10} for name in MODELS]
        self.table.write_text(json.dumps({"models": rows, "samplers": ["euler"], "jitter": 0.2}))
        self.api: subprocess.Popen[bytes] | None = None
        self.agents: dict[str, subprocess.Popen[bytes]] = {}

    def _spawn(self, name: str, words: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("FLEET_") or key == "FLEET_ALLOWED_NETWORKS"}
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *words], env={**kept, **env}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def start_api(self) -> None:
        env = {"FLEET_HOME": str(self.home), "FLEET_HOST": "127.0.0.1", "FLEET_PORT": str(self.port)}
        env |= {"FLEET_CREATE_BURST": "10000", "FLEET_CREATE_PER_MINUTE": "10000"}
        self.api = self._spawn("api", ["fleet_api", "serve"], env)

    def start_agent(self, name: str) -> None:
        env = {
            "FLEET_AGENT_URL": self.agent_urls[name], "FLEET_AGENT_STATE_DIR": str(self.folder / name), "FLEET_AGENT_ENGINE": "sim",
            "FLEET_AGENT_SIM_TABLE": str(self.table), "FLEET_AGENT_HTTP": "off", **self.agent_env,
        }  # fmt: skip
        self.agents[name] = self._spawn(name, [self.agent_module, "run"], env)

    def start(self) -> None:
        self.start_api()
        self.until_healthy()
        with self.client() as api:
            for name in self.names:
                token = api.post("/api/agents/tokens", json={"node_id": name}).json()["token"]
                enrolled = api.post("/api/agents/enrol", json={"token": token, "hostname": name, "machine_id": name}).json()
                make_private_dir(self.folder / name)
                save(self.folder / name, Identity(enrolled["node_id"], enrolled["credential"]))
        for name in self.names:
            self.start_agent(name)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with self.client() as api:
                ready = api.get("/api/vision/nodes").json()["nodes"]
            if sum(node["status"] == "idle" for node in ready) == len(self.names):
                return
            assert time.monotonic() < deadline, (ready, self.logs())
            time.sleep(0.1)

    def healthy(self) -> bool:
        with contextlib.suppress(httpx.TransportError), self.client(1) as api:
            return api.get("/health").status_code == 200
        return False

    def until_healthy(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.healthy():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def client(self, timeout: float = 10) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout, trust_env=False)

    def supervise(self) -> None:
        """Start again what has ended."""
        if self.api is not None and self.api.poll() is not None:
            self.start_api()
        for name, process in list(self.agents.items()):
            if process.poll() is not None:
                self.start_agent(name)

    def engine(self, name: str) -> psutil.Process | None:
        """Return the engine child of an agent, if there is one."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.agents[name].pid).children():
                if "gpu_inference.engine.sim" in child.cmdline():
                    return child
        return None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database itself: it answers while the API is down."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home / 'fleet.db'}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(query, values).fetchall()

    def logs(self) -> str:
        return "".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        """End all that was started, what is stopped too."""
        family: list[psutil.Process] = []
        for process in [*self.agents.values(), *([self.api] if self.api else [])]:
            with contextlib.suppress(psutil.Error):
                family += [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for each in family:
            with contextlib.suppress(psutil.Error):
                each.send_signal(signal.SIGCONT)
                each.kill()
        psutil.wait_procs(family, timeout=5)
        for process in [*self.agents.values(), *([self.api] if self.api else [])]:
            process.wait(5)


@contextmanager
def sim_fleet(folder: Path, agents: int, job_seconds: float, **more: Any) -> Iterator[SimFleet]:
    """Run a fleet while the context is open, and leave no process behind."""
    fleet = SimFleet(folder, agents, job_seconds, **more)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()
