"""The agent as a whole, with a real engine child, through the ways things go wrong."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.agent.uploads import Outbox
from gpu_inference.engine.metadata import read_metadata
from gpu_inference.engine.samplers import SAMPLERS
from gpu_inference.protocol import Held
from tests.support.fake_control_plane import CREDENTIAL, TOKEN, FakeControlPlane, Job

Make = Callable[..., Any]


def step_of(job: Job) -> int:
    return job.steps[-1] if job.steps else 0


def test_it_enrols_leases_renders_uploads_and_completes(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model)
    job = plane.finished(plane.submit("j1", width=128, height=128, guidance_scale=3.0))
    assert job.completions == 1
    assert job.result is not None
    assert (job.result["model"], job.result["seed"], job.result["scaled"], job.result["native_width"]) == ("tiny", 1, True, 64)
    data = read_metadata(job.output)
    assert data is not None
    assert data["guidance_scale"] == 3.0
    lease = next(lease for lease in plane.leases if lease["want_job"])
    assert lease["capabilities"]["job_types"] == ["image_gen"]
    assert lease["capabilities"]["models"][0]["name"] == "tiny"
    assert lease["capabilities"]["samplers"] == list(SAMPLERS)
    assert lease["capabilities"]["backend"] == "onnx"
    plane.wait(lambda: any(lease["want_job"] and lease["loaded_model"] == "tiny" for lease in plane.leases))
    assert plane.enrolments[0]["hostname"]
    assert oct((agent.state / "identity.json").stat().st_mode & 0o777) == "0o600"
    assert list((agent.state / "pending").iterdir()) == []
    before = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - before < 3


def test_beats_carry_figures_facts_and_steps(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent_of(slow_model)
    plane.wait(lambda: plane.beats)
    first = plane.beats[0]
    assert first["facts"]["cpu_count"] >= 1
    assert first["facts"]["python"]
    assert first["metrics"]["memory_total_mib"] > 0
    assert first["metrics"]["gpu"] == 0
    job = plane.finished(plane.submit("j1", model="slow", steps=40))
    assert job.steps == sorted(job.steps)
    assert len(set(job.steps)) >= 4
    assert "denoising" in job.phases
    gaps = [later - earlier for earlier, later in itertools.pairwise(job.beats)]
    assert len(gaps) / (job.beats[-1] - job.beats[0]) <= 5.5
    assert any(beat["state"] == "working" and beat["metrics"] is None for beat in plane.beats)


def test_one_lease_at_a_time_and_cancels_are_heard_while_busy(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent_of(slow_model)
    job, waiting = plane.submit("j1", model="slow", steps=150), plane.submit("j2", steps=1)
    plane.wait(lambda: step_of(job) >= 1)
    assert waiting.state == "queued"
    plane.wait(lambda: any(not lease["want_job"] and lease["holding"] for lease in plane.leases))
    asked = time.monotonic()
    plane.stop(job)
    plane.wait(lambda: job.failures)
    assert time.monotonic() - asked < 2
    assert job.failures[0]["kind"] == "cancelled"
    assert job.failures[0]["retry"] is False
    assert job.state == "cancelled"
    plane.finished(waiting)
    assert job.output == b""


@pytest.mark.faults
def test_a_hung_engine_is_killed_reported_and_replaced(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent = agent_of(slow_model, step_timeout=0.7)
    job = plane.submit("j1", model="slow", steps=30)
    plane.wait(lambda: step_of(job) >= 1)
    engine = agent.engine()
    os.kill(engine, signal.SIGSTOP)
    stopped = time.monotonic()
    plane.wait(lambda: job.failures)
    assert time.monotonic() - stopped < 3
    assert job.failures[0]["kind"] == "step_timeout"
    assert job.failures[0]["retry"] is True
    assert job.failures[0]["error"] == "A step took longer than 0.7 s."
    plane.finished(job)
    assert job.attempt == 2
    assert agent.engine() != engine
    assert agent.process.poll() is None


@pytest.mark.faults
def test_a_cancel_that_is_not_obeyed_ends_the_child(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent = agent_of(slow_model, cancel_timeout=0.5)
    job = plane.submit("j1", model="slow", steps=150)
    plane.wait(lambda: step_of(job) >= 1)
    os.kill(agent.engine(), signal.SIGSTOP)
    plane.stop(job)
    plane.wait(lambda: job.failures)
    assert job.failures[0]["kind"] == "cancelled"
    assert "did not obey a cancel within 0.5 s" in job.failures[0]["error"]
    plane.finished(plane.submit("j2", steps=1))


@pytest.mark.faults
def test_an_engine_that_is_killed_fails_its_attempt_and_the_next_works(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent = agent_of(slow_model)
    job = plane.submit("j1", model="slow", steps=30)
    plane.wait(lambda: step_of(job) >= 1)
    os.kill(agent.engine(), signal.SIGKILL)
    plane.wait(lambda: job.failures)
    assert job.failures[0]["kind"] == "engine_died"
    assert job.failures[0]["retry"] is True
    assert "SIGKILL" in job.failures[0]["error"]
    plane.finished(job)
    assert (job.attempt, job.completions) == (2, 1)


@pytest.mark.faults
def test_the_same_seed_before_and_after_the_engine_is_killed(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model)
    first = plane.finished(plane.submit("j1", scheduler="euler_a"))
    engine = agent.engine()
    os.kill(engine, signal.SIGKILL)
    agent.engine(other_than=engine)
    second = plane.finished(plane.submit("j2", scheduler="euler_a"))
    assert first.output == second.output


@pytest.mark.faults
def test_an_agent_that_is_killed_leaves_no_engine_and_its_job_is_done_once(
    plane: FakeControlPlane, agent_of: Make, slow_model: Path
) -> None:
    agent = agent_of(slow_model)
    job = plane.submit("j1", model="slow", steps=20)
    plane.wait(lambda: step_of(job) >= 1)
    engine = agent.engine()
    agent.kill()
    end = time.monotonic() + 5
    while Path(f"/proc/{engine}").exists() and Path(f"/proc/{engine}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end
        time.sleep(0.02)
    agent.start()
    plane.finished(job)
    assert (job.attempt, job.completions) == (2, 1)
    assert len(plane.enrolments) == 1
    assert len({lease["incarnation"] for lease in plane.leases}) == 2


@pytest.mark.faults
def test_a_result_outlives_the_control_planes_restart(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent_of(slow_model)
    job = plane.submit("j1", model="slow", steps=12)
    plane.wait(lambda: step_of(job) >= 1)
    plane.close()
    time.sleep(2.5)
    plane.open()
    plane.finished(job)
    assert (job.attempt, job.completions, job.failures) == (1, 1, [])


@pytest.mark.faults
def test_a_result_outlives_the_agent(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model)
    plane.interfere = lambda _method, path: 503 if path == "complete" else None
    job = plane.submit("j1")
    plane.wait(lambda: any(path == "complete" for _, path, _ in plane.calls))
    agent.kill()
    assert len(list((agent.state / "pending").glob("*.json"))) == 1
    plane.interfere = None
    # Its lease is still open when the next run comes up: the finished picture counts, nothing is made again.
    agent.start()
    plane.finished(job)
    assert (job.attempt, job.completions) == (1, 1)
    plane.wait(lambda: not list((agent.state / "pending").iterdir()))


def test_a_result_that_is_too_late_is_dropped(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model)
    plane.wait(lambda: plane.beats)
    agent.stop()
    Outbox(agent.state).keep(Held(job_id="gone", attempt=1), "old", b"late", {})
    agent.start()
    plane.finished(plane.submit("j2"))
    plane.wait(lambda: not list((agent.state / "pending").iterdir()))
    assert "came too late" in agent.log


def test_calls_are_repeated_through_errors_and_count_once(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    refused: dict[str, int] = {}

    def twice(_method: str, path: str) -> int | None:
        name = path.split("/")[0]
        refused[name] = refused.get(name, 0) + 1
        return (500, 503)[refused[name] - 1] if refused[name] <= 2 else None

    plane.interfere = twice
    agent_of(tiny_model)
    job = plane.finished(plane.submit("j1"))
    assert (job.attempt, job.completions) == (1, 1)
    assert set(refused) >= {"enrol", "lease", "beat", "uploads", "complete"}


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"guidance_scale": float("nan")}, "bad_payload"),
    ({"width": 7}, "bad_payload"),
    ({"steps": 0}, "bad_payload"),
    ({"prompt": "x" * 20000}, "bad_payload"),
    ({"model": "sdxl"}, "unknown_model"),
    ({"scheduler": "plms"}, "bad_payload"),
    ({"lora": "night"}, "unknown_lora"),
]


def test_hostile_payloads_fail_once_with_a_sentence(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model)
    engine = agent.engine()
    for index, (payload, kind) in enumerate(HOSTILE):
        job = plane.submit(f"hostile-{index}", **payload)
        plane.ended(job)
        assert [failure["kind"] for failure in job.failures] == [kind]
        assert job.failures[0]["retry"] is False
        assert len(job.failures[0]["error"]) < 250
        assert "Traceback" not in job.failures[0]["error"]
    plane.finished(plane.submit("sound", prompt="☃ \x00 \ud800"))
    assert agent.engine() == engine


def test_an_unknown_job_type_and_a_job_that_lasts_too_long(plane: FakeControlPlane, agent_of: Make, slow_model: Path) -> None:
    agent_of(slow_model)
    strange = plane.add(Job("j1", {}, job_type="video"))
    plane.wait(lambda: strange.state == "failed")
    assert strange.failures[0]["error"] == "This agent does not do jobs of type 'video'; it does: image_gen."
    late = plane.add(Job("j2", {"prompt": "a", "steps": 150, "width": 64, "height": 64}, timeout_seconds=1.0))
    plane.wait(lambda: late.failures)
    assert late.failures[0]["kind"] == "timeout"
    late.state = "failed"
    plane.finished(plane.submit("j3", steps=1))


def test_secrets_are_in_no_log_and_not_in_the_engine(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model, log="debug")
    plane.finished(plane.submit("j1"))
    engine = agent.engine()
    environment = Path(f"/proc/{engine}/environ").read_bytes()
    command = Path(f"/proc/{engine}/cmdline").read_bytes()
    agent.stop()
    for secret in (TOKEN, CREDENTIAL):
        assert secret not in agent.log
        assert secret.encode() not in environment + command
    for line in agent.log.splitlines():
        assert set(json.loads(line)) >= {"time", "level", "event"}


def test_without_a_token_it_says_so(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model, token_file="/nowhere/token")
    assert agent.process.wait(10) == 3
    assert "This node is not enrolled" in agent.log
    assert "Traceback" not in agent.log


def test_a_token_that_is_not_accepted(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model, token="wrong-token-text")
    assert agent.process.wait(10) == 3
    assert "The enrolment token is not accepted" in agent.log
    assert "wrong-token-text" not in agent.log


def test_a_credential_that_is_revoked_needs_a_fresh_token(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model)
    plane.finished(plane.submit("j1"))
    plane.credential = "another"
    assert agent.process.wait(15) == 3
    assert "no longer accepted: enrol it again with a fresh token" in agent.log


def test_a_fresh_token_enrols_it_again_without_a_restart(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    agent = agent_of(tiny_model)
    plane.finished(plane.submit("j1"))
    plane.tokens = {"fresh-token"}
    agent.token.write_text("fresh-token\n")
    plane.credential = "another"
    plane.finished(plane.submit("j2"))
    assert len(plane.enrolments) == 2
    assert agent.process.poll() is None
    assert "another" in (agent.state / "identity.json").read_text()


def test_two_agents_do_not_share_a_state_folder(plane: FakeControlPlane, agent_of: Make, tiny_model: Path) -> None:
    first = agent_of(tiny_model)
    plane.wait(lambda: plane.beats)
    second = agent_of(tiny_model, state_dir=first.state)
    assert second.process.wait(10) == 4
    assert "already works on the state folder" in second.log


def test_an_engine_that_cannot_start_is_told_and_no_job_is_taken(plane: FakeControlPlane, agent_of: Make, tmp_path: Path) -> None:
    agent = agent_of(tmp_path / "no-such-model")
    job = plane.submit("j1")
    plane.wait(lambda: job.failures)
    assert "This node has no model." in job.failures[0]["error"]
    assert agent.process.poll() is None
