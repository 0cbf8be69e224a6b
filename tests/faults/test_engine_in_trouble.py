"""An engine that hangs, crashes, or takes all memory: its job is told why, the agent lives, and the next job is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_inference.agent import oom
from tests.support.fake_control_plane import TOKEN, FakeControlPlane, Job
from tests.support.memory_group import MemoryGroup, memory_group
from tests.support.sim_fleet import SimFleet
from tests.support.tiny_model import make_tiny_model

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
BAD = [sys.executable, "-m", "tests.support.agent_of_engine", "run"]
REAL = [sys.executable, "-m", "gpu_inference", "run"]
GROUP_MIB = 512


class Agent:
    """A real agent, in a control group where one is given."""

    def __init__(
        self, plane: FakeControlPlane, folder: Path, command: list[str], group: MemoryGroup | None = None, **settings: Any
    ) -> None:
        (folder / "table.json").write_text('{"models": [{"name": "sim-a", "load_seconds": 0, "seconds_per_megapixel_step": 0}]}')
        (folder / "token").write_text(TOKEN)
        self.file = folder / "agent.log"
        engine = {"FLEET_AGENT_ENGINE": "sim", "FLEET_AGENT_SIM_TABLE": str(folder / "table.json")} if command is BAD else {}
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}, **engine,
            "FLEET_AGENT_URL": plane.url, "FLEET_AGENT_STATE_DIR": str(folder / "state"), "FLEET_AGENT_TOKEN_FILE": str(folder / "token"),
            "FLEET_AGENT_HTTP": "off", "FLEET_AGENT_THREADS": "1",
            **{f"FLEET_AGENT_{name.upper()}": str(value) for name, value in settings.items()},
        }  # fmt: skip
        with self.file.open("ab") as log:
            words = group.command(*command) if group is not None else command
            self.process = subprocess.Popen(words, cwd=str(ROOT), env=env, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return self.file.read_text()

    def engine(self) -> psutil.Process:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            for child in psutil.Process(self.process.pid).children():
                if child.status() != psutil.STATUS_ZOMBIE:
                    return child
            time.sleep(0.02)
        raise AssertionError(self.log)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as plane:
        yield plane


@contextmanager
def agent(
    plane: FakeControlPlane, folder: Path, command: list[str] = BAD, group: MemoryGroup | None = None, **settings: Any
) -> Iterator[Agent]:
    found = Agent(plane, folder, command, group, **settings)
    try:
        yield found
    finally:
        found.close()


def failed(plane: FakeControlPlane, name: str, prompt: str, seconds: float = 30.0) -> dict[str, Any]:
    """Have one attempt made, and return how it failed; it is not tried again."""
    job = plane.submit(name, prompt=prompt, model="sim-a")
    plane.wait(lambda: job.failures, seconds, f"{name} failed")
    plane.jobs.pop(name)
    return job.failures[0]


def works(plane: FakeControlPlane, name: str) -> Job:
    job = plane.finished(plane.submit(name, prompt="fine", model="sim-a"))
    plane.jobs.pop(name)
    return job


def test_it_hangs_crashes_and_leaks_and_the_agent_lives(plane: FakeControlPlane, tmp_path: Path) -> None:
    with agent(plane, tmp_path, step_timeout=2.0, memory_limit_gib=0.15) as it:
        works(plane, "before")
        for prompt, kind, words, within in (
            ("hang", "step_timeout", "A step took longer than 2 s.", 5.0),
            ("crash", "engine_died", "The engine was ended by signal 11.", 4.0),
            ("leak", "out_of_memory", "MiB of memory, more than the 154 MiB that it may have, and was ended.", 15.0),
        ):
            engine, begun = it.engine(), time.monotonic()
            failure = failed(plane, prompt, prompt)
            assert time.monotonic() - begun < within
            assert (failure["kind"], failure["retry"]) == (kind, True)
            assert words in failure["error"]
            assert "Traceback" not in failure["error"]
            assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
            works(plane, f"after-{prompt}")
        assert it.process.poll() is None


def test_the_kernel_is_offered_the_engine_first(plane: FakeControlPlane, tmp_path: Path) -> None:
    with agent(plane, tmp_path) as it:
        works(plane, "before")
        own, engine = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (it.process.pid, it.engine().pid))
        assert engine == own + oom.ABOVE


def test_the_kernel_ends_the_engine_and_not_the_agent(plane: FakeControlPlane, tmp_path: Path) -> None:
    with memory_group(GROUP_MIB) as group, agent(plane, tmp_path, group=group) as it:
        works(plane, "before")
        struck = oom.kills()
        job = plane.submit("burst", prompt="burst", model="sim-a")
        end = time.monotonic() + 20
        while oom.kills() == struck:
            assert time.monotonic() < end, "the kernel did nothing"
            time.sleep(0.02)
        os.kill(it.process.pid, signal.SIGCONT)
        plane.wait(lambda: job.failures)
        plane.jobs.pop("burst")
        failure = job.failures[0]
        assert (failure["kind"], failure["error"]) == ("out_of_memory", "The engine was ended by the kernel, as the memory ran out.")
        works(plane, "after")
        assert it.process.poll() is None


def test_a_slow_leak_is_ended_before_the_kernel_strikes(plane: FakeControlPlane, tmp_path: Path) -> None:
    with memory_group(GROUP_MIB) as group, agent(plane, tmp_path, group=group):
        works(plane, "before")
        struck = oom.kills()
        failure = failed(plane, "leak", "leak")
        assert oom.kills() == struck
        assert failure["kind"] == "out_of_memory"
        assert "the engine was ended before the system would have ended something." in failure["error"]
        works(plane, "after")


def test_a_model_that_does_not_fit_is_refused_and_the_engine_lives(plane: FakeControlPlane, tmp_path: Path) -> None:
    models = [make_tiny_model(tmp_path / "tiny"), make_tiny_model(tmp_path / "huge", name="huge", native_size=1024)]
    with agent(plane, tmp_path, REAL, models=os.pathsep.join(map(str, models)), memory_limit_gib=0.75) as it:
        plane.finished(plane.submit("before"))
        engine = it.engine().pid
        job = plane.submit("huge", model="huge")
        plane.wait(lambda: job.failures)
        plane.jobs.pop("huge")
        failure = job.failures[0]
        assert (failure["kind"], failure["retry"]) == ("no_room", True)
        assert failure["error"].startswith("The model 'huge' needs about 1.5 GiB of memory, and ")
        plane.finished(plane.submit("after"))
        assert it.engine().pid == engine
        assert "A model is loaded." in it.log


def test_an_idle_engine_lets_its_model_go_where_memory_is_short_and_loads_it_again(plane: FakeControlPlane, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "tiny")
    hog = "import sys; x = bytearray(b'x') * (int(sys.argv[1]) << 20); print('there', flush=True); sys.stdin.read()"
    with memory_group(700) as group, agent(plane, tmp_path, REAL, group, models=tmp_path / "tiny") as it:
        plane.finished(plane.submit("before"))
        plane.wait(lambda: plane.beats[-1]["loaded_model"] == "tiny")
        engine, fill = it.engine().pid, int(700 - group.used_mib() - 135)
        words = group.command(sys.executable, "-c", hog, str(fill))
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as filling:
            assert filling.stdout is not None
            assert filling.stdout.readline() == b"there\n"
            plane.wait(lambda: plane.beats[-1]["loaded_model"] is None, 15, "the model was let go")
            filling.kill()
        plane.finished(plane.submit("after"))
        plane.wait(lambda: plane.beats[-1]["loaded_model"] == "tiny")
        assert it.engine().pid == engine


class Troubled(SimFleet):
    """A fleet whose engines misbehave as they are told."""

    def _spawn(self, name: str, words: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        return super()._spawn(name, ["tests.support.agent_of_engine", "run"] if words[0] == "gpu_inference.agent" else words, env)


def test_a_job_that_eats_all_memory_is_not_tried_for_ever(tmp_path: Path) -> None:
    fleet = Troubled(tmp_path, 2, 1.0, FLEET_AGENT_MEMORY_LIMIT_GIB="0.15")
    try:
        fleet.start()
        with fleet.client(30) as api:
            body = {"prompt": "leak", "model": "sim-a", "width": 64, "height": 64, "steps": 5}
            job = api.post("/api/vision/generate", json=body).json()["job_id"]
            end = time.monotonic() + 60
            while (view := api.get(f"/api/queue/jobs/{job}").json())["status"] != "failed":
                assert time.monotonic() < end, view
                time.sleep(0.1)
            tries = [(each["node_id"], each["outcome"]) for each in view["history"]]
            assert len(tries) == 3
            assert {node for node, _ in tries} == {"sim0", "sim1"}, "another node tried it, too"
            assert "Its worker died 3 times" in view["error"]
            assert "more than the 154 MiB that it may have" in view["error"]
            fine = api.post("/api/vision/generate", json={**body, "prompt": "fine"}).json()["job_id"]
            end = time.monotonic() + 30
            while api.get(f"/api/queue/jobs/{fine}").json()["status"] != "completed":
                assert time.monotonic() < end, fleet.logs()
                time.sleep(0.1)
    finally:
        fleet.stop()
