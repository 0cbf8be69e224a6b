"""An agent with several leases at once: each has its own steps, previews, cancel, result and end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.agent.settings import SettingsError, load_settings
from tests.support.fake_control_plane import FakeControlPlane, Job

Make = Callable[..., Any]


def submit(plane: FakeControlPlane, number: int, **payload: Any) -> list[Job]:
    """Queues jobs all at once."""
    with plane.changed:
        return [plane.submit(f"j{each}", seed=each, **payload) for each in range(number)]


def held(plane: FakeControlPlane) -> int:
    return max((len(beat["holding"]) for beat in plane.beats), default=0)


def test_it_takes_as_many_as_it_is_told_to_and_makes_them_together(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    jobs = submit(plane, 6, steps=40)
    agent_of(tiny_model, batch=4)
    for job in jobs:
        plane.finished(job)
    assert [job.result["batch"] for job in jobs if job.result] == [4] * 4 + [2] * 2
    assert [job.result["seed"] for job in jobs if job.result] == list(range(6))
    assert len({job.output for job in jobs}) == 6
    assert all(job.completions == 1 for job in jobs)
    asked = [lease for lease in plane.leases if lease["want_job"]]
    assert {lease["batch_limit"] for lease in asked} == {4}


def test_on_a_cpu_one_at_a_time_is_usual(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    jobs = submit(plane, 2)
    agent_of(tiny_model)
    assert [plane.finished(job).result["batch"] for job in jobs] == [1, 1]  # type: ignore[index]
    assert {lease["batch_limit"] for lease in plane.leases} == {1}


def test_all_of_them_beat_and_show_how_far_they_are(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    jobs = submit(plane, 3, model="slow", steps=60, preview_every=1)
    agent_of(slow_model, batch=3)
    for job in jobs:
        plane.finished(job, 60)
    assert held(plane) == 3
    for job in jobs:
        assert len(set(job.steps)) > 3
        assert any(f"/{job.job_id}/" in path for path, _ in plane.previews), "each shows its own"


def test_one_is_cancelled_and_the_others_are_made(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    jobs = submit(plane, 3, model="slow", steps=60)
    agent = agent_of(slow_model, batch=3, cancel_timeout=30)
    plane.wait(lambda: jobs[1].steps and jobs[1].steps[-1] >= 2)
    engine = agent.engine()
    plane.stop(jobs[1])
    plane.wait(lambda: jobs[1].failures)
    assert (jobs[1].failures[0]["kind"], jobs[1].failures[0]["retry"]) == ("cancelled", False)
    assert jobs[0].state == jobs[2].state == "leased"
    for job in (jobs[0], jobs[2]):
        plane.finished(job, 60)
    assert agent.engine() == engine


def test_one_over_its_time_leaves_the_others(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    with plane.changed:
        payload = {"prompt": "x", "width": 64, "height": 64, "steps": 80, "scheduler": "euler", "model": "slow"}
        short = plane.add(Job("short", {**payload, "seed": 1}, timeout_seconds=1.5))
        long = plane.add(Job("long", {**payload, "seed": 2}))
    agent = agent_of(slow_model, batch=2, cancel_timeout=30)
    plane.wait(lambda: short.failures, 30)
    engine = agent.engine()
    assert short.failures[0]["kind"] == "timeout"
    plane.jobs.pop("short")
    plane.finished(long, 60)
    assert agent.engine() == engine


def test_an_engine_killed_in_the_middle_fails_each_attempt(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    jobs = submit(plane, 3, model="slow", steps=100)
    agent = agent_of(slow_model, batch=3)
    plane.wait(lambda: all(job.steps and job.steps[-1] >= 1 for job in jobs))
    plane.batches = False
    os.kill(agent.engine(), signal.SIGKILL)
    plane.wait(lambda: all(job.failures for job in jobs))
    assert [(job.failures[0]["kind"], job.failures[0]["retry"]) for job in jobs] == [("engine_died", True)] * 3
    for job in jobs:
        job.payload["steps"] = 2
        plane.finished(job, 60)


def test_a_stop_gives_all_of_them_back(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    jobs = submit(plane, 3, model="slow", steps=150)
    agent = agent_of(slow_model, batch=3, drain_seconds=0)
    plane.wait(lambda: all(job.steps and job.steps[-1] >= 1 for job in jobs))
    assert agent.stop() == 0
    assert [[failure["kind"] for failure in job.failures] for job in jobs] == [["agent_stopped"]] * 3


def test_a_drain_lets_a_batch_finish(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    jobs = submit(plane, 2, model="slow", steps=40)
    agent = agent_of(slow_model, batch=2, drain_seconds=60)
    plane.wait(lambda: all(job.steps and job.steps[-1] >= 5 for job in jobs))
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(60) == 0
    assert [job.state for job in jobs] == ["completed"] * 2


def test_the_setting(tmp_path: Path) -> None:
    assert load_settings({}).batch == 0
    assert load_settings({"FLEET_AGENT_BATCH": "4"}).batch == 4
    with pytest.raises(SettingsError, match="FLEET_AGENT_BATCH must be a number from 0 to 8"):
        load_settings({"FLEET_AGENT_BATCH": "9"})


def test_it_is_as_quick_to_hear_of_a_cancel_while_others_wait(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    jobs = submit(plane, 2, model="slow", steps=150)
    agent_of(slow_model, batch=2)
    plane.wait(lambda: jobs[0].steps and jobs[0].steps[-1] >= 2)
    begun = time.monotonic()
    for job in jobs:
        plane.stop(job)
    plane.wait(lambda: all(job.failures for job in jobs))
    assert time.monotonic() - begun < 3
