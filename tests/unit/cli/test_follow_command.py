"""``fleet jobs --follow``."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from fleet_api.access.enrolment import create_token
from fleet_api.kit.clock import SystemClock
from tests.support.agent import FakeAgent
from tests.support.command import Command
from tests.support.live import Live


@pytest.fixture(scope="module")
def worker(served: Live) -> FakeAgent:
    http = httpx.Client(base_url=served.url, trust_env=False, timeout=30)
    token = served.call(create_token(served.fleet.db, SystemClock(), None))
    enrolled = http.post("/api/agents/enrol", json={"token": token, "hostname": "agx0", "machine_id": "agx0"}).json()
    agent = FakeAgent(http, enrolled["node_id"], enrolled["credential"])  # type: ignore[arg-type]
    agent.lease()
    return agent


def submit(worker: FakeAgent) -> str:
    return str(worker.api.post("/api/vision/generate", json={"prompt": "x"}).json()["job_id"])


def test_a_job_is_shown_until_it_has_ended(fleet: Command, served: Live, worker: FakeAgent) -> None:
    job = submit(worker)

    def work() -> None:
        while not served.fleet.bus.subscribers:
            time.sleep(0.02)
        lease = worker.take()
        worker.beat(lease, 10)
        worker.finish(lease)

    thread = threading.Thread(target=work)
    thread.start()
    shown = fleet("jobs", "--follow", job, "--url", served.url).stdout.splitlines()
    thread.join()
    assert shown[0] in ("queued", "processing on agx0, 0 %")  # it subscribes before it first asks, and a job may begin between the two
    assert "processing on agx0, 50 %" in shown
    assert shown[-1].startswith("completed")
    assert fleet.json("jobs", "--follow", job, "--url", served.url)["status"] == "completed"


def test_a_job_that_did_not_succeed_is_a_sentence(fleet: Command, served: Live, worker: FakeAgent) -> None:
    job = submit(worker)
    worker.api.delete(f"/api/queue/jobs/{job}")
    assert f"Job {job} is cancelled: it was cancelled." in fleet("jobs", "--follow", job, "--url", served.url, code=1).stderr
    assert "give one of them" in fleet("jobs", "--follow", job, "--cancel", job, code=2).stderr
