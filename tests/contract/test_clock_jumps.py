"""The wall clock is set back or forward, or the control plane stands still: no lease lapses for it, and ages stay sane."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from fleet_api.app import create_app
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings
from gpu_inference.protocol import LEASE_SECONDS
from tests.support.agent import FakeAgent
from tests.support.client import client_of
from tests.support.clock import ManualClock

PICTURE = {"prompt": "x"}
HOUR = 3600.0
JUMPS = pytest.mark.parametrize("jump", [-HOUR, HOUR])


def submit(api: TestClient) -> str:
    return str(api.post("/api/vision/generate", json=PICTURE).json()["job_id"])


def status(api: TestClient, job: str) -> str:
    return str(api.get(f"/api/vision/jobs/{job}").json()["status"])


def reap(api: TestClient) -> None:
    api.portal.call(api.app.state.fleet.leases.reap)


@JUMPS
def test_no_lease_lapses_when_the_wall_clock_jumps(api: TestClient, agent: FakeAgent, clock: ManualClock, jump: float) -> None:
    job = submit(api)
    lease = agent.take()
    clock.jump(jump)
    reap(api)
    assert status(api, job) == "processing"
    api.portal.call(api.app.state.fleet.nodes.check_silence)
    assert api.get("/api/vision/status").json()["busy_nodes"] == 1
    assert agent.beat(lease, 1) == []
    agent.finish(lease)
    assert status(api, job) == "completed"


@JUMPS
def test_ages_and_waits_stay_sane(api: TestClient, agent: FakeAgent, clock: ManualClock, jump: float) -> None:
    submit(api)
    lease, waiting = agent.take(), submit(api)
    before = api.get(f"/api/vision/jobs/{waiting}").json()["wait_seconds"]
    clock.jump(jump)
    shown = api.get(f"/api/vision/jobs/{waiting}").json()
    assert abs(shown["wait_seconds"] - before) < 1, "a wait is counted on the monotonic clock"
    assert 0 <= api.get("/api/queue/stats").json()["oldest_queued_seconds"] <= HOUR
    agent.finish(lease)
    assert agent.take()["job_id"] == waiting


@JUMPS
def test_a_job_kept_back_after_a_failure_comes_back_in_its_time(api: TestClient, agent: FakeAgent, clock: ManualClock, jump: float) -> None:
    job = submit(api)
    agent.fail(agent.take())
    clock.jump(jump)
    assert agent.lease()["lease"] is None
    clock.advance(1.5)
    assert agent.take()["job_id"] == job


def test_a_restart_with_the_clock_set_back_keeps_nothing_back_for_an_hour(settings: Settings, clock: ManualClock) -> None:
    settings.home.mkdir()
    upgrade(settings.database)
    with client_of(create_app(settings, clock)) as api:
        agent = FakeAgent.enrol(api, "agx0")
        agent.lease()
        failed = submit(api)
        agent.fail(agent.take())
        running = submit(api)
        lease = agent.take()
        assert lease["job_id"] == running
    clock.jump(-HOUR)
    with client_of(create_app(settings, clock)) as api:
        agent.api = api
        reap(api)
        assert status(api, running) == "processing"
        agent.finish(lease)
        assert agent.lease()["lease"] is None
        clock.advance(61)
        assert agent.take()["job_id"] == failed


def test_a_control_plane_that_stood_still_gives_every_lease_a_full_term(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    """As after SIGSTOP and SIGCONT: the beats of that time wait unread in its sockets."""
    job = submit(api)
    lease = agent.take()
    clock.advance(20)
    api.app.state.fleet.leases._looked -= 20
    reap(api)
    assert status(api, job) == "processing"
    clock.advance(LEASE_SECONDS - 1)
    reap(api)
    assert agent.beat(lease, 1) == []
    clock.advance(LEASE_SECONDS + 1)
    reap(api)
    assert status(api, job) == "queued", "an agent that is really gone is found out"
