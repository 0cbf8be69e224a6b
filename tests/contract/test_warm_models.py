"""Models that a node has loaded beside its present one."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from tests.support.agent import CAPABILITIES, FakeAgent
from tests.support.clock import ManualClock


def agent(api: TestClient, name: str, warm: list[str]) -> FakeAgent:
    found = FakeAgent.enrol(api, name)
    found.capabilities, found.loaded_model = {**CAPABILITIES, "loads": True}, "fleet-shapes"
    found.warm_models = warm
    assert found.lease()["lease"] is None
    found.beat()
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
