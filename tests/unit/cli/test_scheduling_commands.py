"""``fleet models``, ``fleet jobs --explain``, ``fleet nodes --maintenance``."""

from __future__ import annotations

import httpx
import pytest

from tests.support.agent import CAPABILITIES, FakeAgent
from tests.support.command import Command
from tests.support.live import Live


@pytest.fixture
def http(served: Live) -> httpx.Client:
    return httpx.Client(base_url=served.url, trust_env=False)


@pytest.fixture
def agent(http: httpx.Client) -> FakeAgent:
    body = {"token": http.post("/api/agents/tokens", json={"node_id": "agx0"}).json()["token"], "hostname": "agx0", "machine_id": "agx0"}
    enrolled = http.post("/api/agents/enrol", json=body).json()
    found = FakeAgent(http, enrolled["node_id"], enrolled["credential"])  # type: ignore[arg-type]
    found.capabilities = {**CAPABILITIES, "loads": True}
    found.lease()
    return found


def test_models_are_shown_and_loaded(fleet: Command, served: Live, agent: FakeAgent) -> None:
    agent.loaded_model = "fleet-shapes"
    agent.lease()
    agent.beat()
    shown = fleet("models", "--url", served.url).stdout
    assert "LOADED ON" in shown
    assert [model["loaded_on"] for model in fleet.json("models", "--url", served.url) if model["name"] == "fleet-shapes"] == [["agx0"]]
    loaded = fleet("models", "--load", "agx0", "fleet-shapes", "--url", served.url).stdout
    assert loaded == "agx0: fleet-shapes: it was loaded already\n"
    assert fleet.json("models", "--load", "agx0", "other-model", "--url", served.url)["status"] == "waiting"
    assert agent.lease(wait=5)["load"] == "other-model"
    assert fleet("models", "--bring-default", "agx0", "--url", served.url).stdout == "agx0: fleet-shapes: it has that\n"
    assert fleet.json("models", "--bring-default", "agx0", "--url", served.url)["status"] == "there"
    assert "has no model 'nope'" in fleet("models", "--load", "agx0", "nope", "--url", served.url, code=4).stderr


def test_a_job_is_explained_and_a_node_is_taken_out_and_back(fleet: Command, served: Live, agent: FakeAgent, http: httpx.Client) -> None:
    out = fleet("nodes", "--maintenance", "agx0", "--url", served.url).stdout
    assert out == "agx0: it is given no more jobs; what it does, it ends\n"
    job = http.post("/api/vision/generate", json={"prompt": "x"}).json()["job_id"]
    shown = fleet("jobs", "--explain", job, "--url", served.url).stdout
    assert "it is in maintenance (its label maintenance=yes)" in shown
    assert fleet("nodes", "--working", "agx0", "--url", served.url).stdout == "agx0: it is given jobs again\n"
    agent.loaded_model = "fleet-shapes"
    agent.fail(agent.take(), "It broke.", retry=False)
    shown = fleet("jobs", "--explain", job, "--url", served.url).stdout
    assert "went to agx0: the node had its model loaded." in shown
    assert "attempt 1 on agx0: failed, It broke." in shown
    assert "no job 'nope'" in fleet("jobs", "--explain", "nope", "--url", served.url, code=4).stderr
