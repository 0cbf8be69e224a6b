"""Models that a node has loaded beside its present one, or that wait in its memory."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.scheduling.condition import lacks_memory
from tests.support.agent import CAPABILITIES, FakeAgent
from tests.support.clock import ManualClock


def agent(api: TestClient, name: str, warm: list[str], parked: list[str] | None = None, **metrics: Any) -> FakeAgent:
    found = FakeAgent.enrol(api, name)
    found.capabilities, found.loaded_model = {**CAPABILITIES, "loads": True}, "fleet-shapes"
    found.warm_models, found.parked_models = warm, parked or []
    assert found.lease()["lease"] is None
    found.beat(metrics=metrics or None)
    return found


def test_a_change_to_a_warm_model_costs_nothing_and_is_not_learnt(api: TestClient, clock: ManualClock) -> None:
    cold, warm = agent(api, "a-cold", []), agent(api, "warm", ["other-model"])
    crew, nodes = api.app.state.fleet.jobs._crew, api.app.state.fleet.nodes
    assert cold.lease()["lease"] is None
    assert nodes.get("a-cold").worker.switch("other-model") > 5
    assert nodes.get("warm").worker.switch("other-model") == 0
    usual = crew.costs.switch("warm", "other-model")
    body: dict[str, Any] = {"prompt": "x", "model": "other-model"}
    job = api.post("/api/vision/generate", json=body).json()["job_id"]
    answer = warm.lease(wait=5)
    assert answer["load"] == "other-model"
    warm.loaded_model, warm.warm_models = "other-model", ["fleet-shapes"]
    warm.beat()
    assert warm.take()["job_id"] == job
    assert crew.costs.switch("warm", "other-model") == usual, "what was there already says nothing of loading"


def test_a_parked_model_is_woken_where_it_is_and_what_that_takes_is_learnt_apart(api: TestClient, clock: ManualClock) -> None:
    parked, cold = agent(api, "a-parked", [], ["other-model"]), agent(api, "cold", [])
    crew, nodes = api.app.state.fleet.jobs._crew, api.app.state.fleet.nodes
    usual = crew.costs.switch("a-parked", "other-model")
    assert 0 < nodes.get("a-parked").worker.switch("other-model") < usual
    assert nodes.get("cold").worker.switch("other-model") == usual
    job = api.post("/api/vision/generate", json={"prompt": "x", "model": "other-model"}).json()["job_id"]
    assert parked.lease(wait=5)["load"] == "other-model"
    clock.advance(0.5)
    parked.loaded_model, parked.parked_models = "other-model", ["fleet-shapes"]
    parked.beat()
    assert parked.take()["job_id"] == job
    assert crew.costs.switch("a-parked", "other-model", "parked") == pytest.approx(0.5)
    assert crew.costs.switch("a-parked", "other-model") == usual, "it says nothing of the disk"
    assert cold.lease()["load"] is None


def test_a_model_that_is_woken_within_a_job_is_learnt_so_too(api: TestClient, clock: ManualClock) -> None:
    found = agent(api, "agx0", [], ["other-model"])
    found.capabilities = {**CAPABILITIES, "loads": False}
    crew = api.app.state.fleet.jobs._crew
    usual = crew.costs.switch("agx0", "other-model")
    api.post("/api/vision/generate", json={"prompt": "x", "model": "other-model"})
    lease = found.take()
    held = {"job_id": lease["job_id"], "attempt": lease["attempt"]}
    found.beat(holding=[{**held, "phase": "loading"}])
    clock.advance(0.25)
    found.beat(holding=[{**held, "phase": "denoising", "step": 1, "steps": 20}])
    assert crew.costs.switch("agx0", "other-model", "parked") == pytest.approx(0.25)
    assert crew.costs.switch("agx0", "other-model") == usual


def test_a_parked_model_holds_nothing_of_the_gpu(api: TestClient) -> None:
    needs = [
        {"name": "fleet-shapes", "needs_mib": 40.0},
        {"name": "other-model", "needs_mib": 9_000.0},
        {"name": "third", "needs_mib": 500.0},
    ]
    for name, warm, parked, room in (("warm", ["other-model"], [], 13_040.0), ("parked", [], ["other-model"], 4_040.0)):
        found = agent(api, name, warm, parked, gpu_memory_total_mib=24_000.0, gpu_memory=20_000.0)
        found.capabilities = {**CAPABILITIES, "loads": True, "models": needs}
        assert found.lease()["lease"] is None
        node = api.app.state.fleet.nodes.get(name)
        assert node.room == room
        assert [lacks_memory(each, "other-model") for each in api.app.state.fleet.jobs._crew.workers() if each.node_id == name] == [
            not warm
        ]


def test_an_agent_that_does_not_know_of_parking_is_understood(api: TestClient) -> None:
    found = agent(api, "agx0", [], ["other-model"])
    body = {"incarnation": found.incarnation, "holding": [], "loaded_model": "fleet-shapes", "warm_models": ["third"]}
    assert api.post("/api/agents/beat", headers=found.headers, json=body).status_code == 200
    worker = api.app.state.fleet.nodes.get("agx0").worker
    assert (worker.spare, worker.parked) == ({"third"}, set())
