"""An agent that is stopped lets its job finish where that is likely in time, and gives it back at once where it is not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.agent.pace import Pace
from tests.support.fake_control_plane import FakeControlPlane, Job

Make = Callable[..., Any]


def at_work(plane: FakeControlPlane, steps: int) -> Job:
    job = plane.submit("j1", model="slow", steps=steps)
    plane.wait(lambda: job.steps and job.steps[-1] >= 2)
    return job


def ended_after(agent: Any, number: signal.Signals, seconds: float = 30.0) -> float:
    begun = time.monotonic()
    agent.process.send_signal(number)
    assert agent.process.wait(seconds) == 0
    return time.monotonic() - begun


def test_the_job_at_work_is_finished_and_no_other_is_begun(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent = agent_of(slow_model)
    job = at_work(plane, 60)
    waiting = plane.submit("j2", model="slow", steps=1)
    ended_after(agent, signal.SIGTERM)
    assert (job.state, job.attempt, job.completions, job.failures) == ("completed", 1, 1, [])
    assert (waiting.state, waiting.attempt) == ("queued", 0)
    told = [beat for beat in plane.beats if beat["state"] == "draining"]
    assert len(told) >= 3, "beats go on"
    assert any(beat["holding"] for beat in told)


def test_a_job_that_would_last_too_long_is_given_back_at_once(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent = agent_of(slow_model, drain_seconds=1.0)
    job = at_work(plane, 150)
    assert ended_after(agent, signal.SIGTERM) < 3
    assert [(failure["kind"], failure["retry"]) for failure in job.failures] == [("agent_stopped", True)]


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]])
def test_at_once_by_sigint_or_a_second_signal(
    plane: FakeControlPlane, agent_of: Make, slow_model: Path, numbers: list[signal.Signals]
) -> None:
    agent = agent_of(slow_model, drain_seconds=60)
    job = at_work(plane, 150)
    for number in numbers[:-1]:
        agent.process.send_signal(number)
        plane.wait(lambda: any(beat["state"] == "draining" for beat in plane.beats))
        assert agent.process.poll() is None
    assert ended_after(agent, numbers[-1]) < 3
    assert [failure["kind"] for failure in job.failures] == ["agent_stopped"]


def test_without_a_time_to_drain_it_is_at_once(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent = agent_of(slow_model, drain_seconds=0)
    job = at_work(plane, 150)
    assert ended_after(agent, signal.SIGTERM) < 3
    assert [failure["kind"] for failure in job.failures] == ["agent_stopped"]


def test_an_idle_agent_is_gone_in_a_moment(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model)
    plane.finished(plane.submit("j1"))
    assert ended_after(agent, signal.SIGTERM) < 2


def test_a_picture_on_its_way_is_delivered_though_the_control_plane_is_away(
    plane: FakeControlPlane, agent_of: Make, slow_model: Path
) -> None:
    agent = agent_of(slow_model)
    job = at_work(plane, 40)
    plane.close()
    agent.process.send_signal(signal.SIGTERM)
    time.sleep(3)
    plane.open()
    assert agent.process.wait(60) == 0
    assert (job.state, job.completions) == ("completed", 1)


def test_the_pace_of_a_job() -> None:
    pace = Pace()
    assert pace.left(0.0) is None
    pace.note(0, 10, "encoding", 0.0)
    pace.note(0, 10, "denoising", 1.0)
    assert pace.left(1.0) is None, "one step says nothing"
    pace.note(0, 10, "denoising", 1.2)
    assert pace.left(1.2) is None, "nor does its second half"
    pace.note(2, 10, "denoising", 2.0)
    assert pace.step_seconds() == pytest.approx(0.5)
    assert pace.left(2.0) == pytest.approx(0.5 * (8 + 2))
    assert pace.left(9.0) == 0, "late, not negative"
    pace.note(10, 10, "decoding", 6.0)
    assert pace.left(6.0) == 0
