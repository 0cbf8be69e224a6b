"""A node whose agent is stopping is given nothing, says so, and is one like the others again after its restart."""

from __future__ import annotations

import threading
import time
from typing import Any

from fastapi.testclient import TestClient

from tests.support.agent import NOTHING, FakeAgent

PICTURE: dict[str, Any] = {"prompt": "x", "model": "fleet-shapes"}


def submit(api: TestClient) -> str:
    return str(api.post("/api/vision/generate", json=PICTURE).json()["job_id"])


def waiting_agent(api: TestClient) -> FakeAgent:
    agent = FakeAgent.enrol(api, "agx0")
    agent.loaded_model = "fleet-shapes"
    assert agent.lease()["lease"] is None
    agent.beat()
    return agent


def test_a_stopping_agent_is_given_nothing(api: TestClient) -> None:
    agent = waiting_agent(api)
    agent.beat(state="draining")
    job = submit(api)
    assert agent.lease()["lease"] is None
    told = api.get(f"/api/vision/jobs/{job}?explain=true").json()["explanation"]
    assert told.startswith("Node agx0 is given nothing: its agent is stopping."), told
    assert api.get("/api/vision/nodes").json()["nodes"][0]["status"] == "offline"
    agent.restart()
    assert agent.take()["job_id"] == job, "the next agent of the node is not held to what the one before it said"


def test_it_keeps_the_job_it_has_and_may_end_it(api: TestClient) -> None:
    agent = waiting_agent(api)
    job = submit(api)
    lease = agent.take()
    assert agent.beat(lease, step=3, state="draining") == []
    assert api.get("/api/vision/nodes").json()["nodes"][0]["status"] == "busy"
    agent.finish(lease)
    assert api.get(f"/api/vision/jobs/{job}").json()["status"] == "completed"


def test_a_node_that_makes_a_picture_at_its_own_door_is_busy(api: TestClient) -> None:
    agent = waiting_agent(api)
    assert agent.lease(want_job=False)["lease"] is None
    agent.beat(state="serving")
    job = submit(api)
    assert api.get("/api/vision/nodes").json()["nodes"][0]["status"] == "busy"
    assert agent.lease(want_job=False)["lease"] is None
    agent.beat(state="idle")
    assert agent.take()["job_id"] == job


def test_a_newer_poll_ends_an_older_one_at_once(api: TestClient) -> None:
    agent = waiting_agent(api)
    answers: list[dict[str, Any]] = []
    poll = threading.Thread(target=lambda: answers.append(agent.lease(wait=20)))
    poll.start()
    time.sleep(0.5)
    assert agent.lease(want_job=False) == NOTHING
    poll.join(5)
    assert [answer["lease"] for answer in answers] == [None]
