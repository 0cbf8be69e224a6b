"""A real agent as a process, beside a control plane on a loopback port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.fake_control_plane import TOKEN, FakeControlPlane

ROOT = Path(__file__).resolve().parents[4]


class AgentProcess:
    """``fleet-worker run`` with a state folder of its own, which outlives restarts."""

    def __init__(self, url: str, folder: Path, models: list[Path], **settings: Any) -> None:
        self.state = folder / "state"
        self.token = folder / "token"
        self.token.write_text(TOKEN)
        self._log = folder / "agent.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FLEET_")},
            "FLEET_AGENT_URL": url,
            "FLEET_AGENT_STATE_DIR": str(self.state),
            "FLEET_AGENT_TOKEN_FILE": str(self.token),
            "FLEET_AGENT_MODELS": os.pathsep.join(map(str, models)),
            "FLEET_AGENT_THREADS": "1",
            "FLEET_AGENT_HTTP": "off",
            **{f"FLEET_AGENT_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._pids: set[int] = set()
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "gpu_inference", "run"]
            self.process = subprocess.Popen(command, cwd=str(ROOT), env=self._environment, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def engine(self, seconds: float = 15.0, other_than: int | None = None) -> int:
        """The pid of the engine child that is up, other than ``other_than``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                pids = [child.pid for child in psutil.Process(self.process.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
            except psutil.NoSuchProcess:
                pids = []
            fresh = [pid for pid in pids if pid != other_than]
            if fresh:
                self._pids.update(fresh)
                return fresh[0]
            time.sleep(0.02)
        raise AssertionError(f"no engine came up: {self.log}")

    def kill(self) -> None:
        """``kill -9``, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def close(self) -> None:
        with contextlib.suppress(AssertionError):
            self.engine(0.05)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in self._pids:
            end = time.monotonic() + 5
            while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < end, f"the engine {pid} was left behind"
                time.sleep(0.02)


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as plane:
        yield plane


@pytest.fixture
def agent_of(plane: FakeControlPlane, tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    made: list[AgentProcess] = []

    def make(*models: Path, **settings: Any) -> AgentProcess:
        folder = tmp_path / f"agent-{len(made)}"
        folder.mkdir()
        made.append(AgentProcess(plane.url, folder, list(models), **settings))
        return made[-1]

    yield make
    for agent in made:
        agent.close()
