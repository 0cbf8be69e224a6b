"""Models, samplers and LoRAs as agents announce them, and pictures that ask for them."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.support.agent import FakeAgent

GENERATE = "/api/vision/generate"
NIGHT = {"name": "night", "base_model": "fleet-shapes", "size_bytes": 230_592}


@pytest.fixture
def with_lora(api: TestClient, agent: FakeAgent) -> FakeAgent:
    agent.capabilities = {**agent.capabilities, "loras": [NIGHT]}
    agent.lease()
    return agent


def test_loras_are_listed(api: TestClient, with_lora: FakeAgent) -> None:
    own = {"stored": False, "sha256": "", "source": "", "note": "", "fetching_on": {}, "failed_on": {}, "on_nodes": ["agx0"]}
    assert api.get("/api/vision/loras").json() == {
        "loras": [{"name": "night", "size": "230.6kB", "size_bytes": 230_592, "base": "fleet-shapes", "loaded_on": [], **own}]
    }


def test_no_loras_yet(api: TestClient) -> None:
    assert api.get("/api/vision/loras").json() == {"loras": []}


def test_a_picture_with_a_lora(api: TestClient, with_lora: FakeAgent) -> None:
    assert api.post(GENERATE, json={"prompt": "x", "lora": "night"}).status_code == 201
    payload = with_lora.take()["payload"]
    assert (payload["lora"], payload["lora_strength"]) == ("night", 0.8)


def test_a_picture_without_one_says_nothing_of_it(api: TestClient, with_lora: FakeAgent) -> None:
    api.post(GENERATE, json={"prompt": "x", "lora_strength": 2})
    assert not {"lora", "lora_strength"} & set(with_lora.take()["payload"])


def test_an_unknown_lora_lists_what_there_is(api: TestClient, with_lora: FakeAgent) -> None:
    answer = api.post(GENERATE, json={"prompt": "x", "lora": "day"})
    assert answer.status_code == 404
    assert answer.json()["detail"] == "lora: there is no LoRA 'day'; the LoRAs are: night."


def test_a_lora_of_another_model(api: TestClient, with_lora: FakeAgent) -> None:
    answer = api.post(GENERATE, json={"prompt": "x", "lora": "night", "model": "other-model"})
    assert answer.status_code == 400
    assert "'fleet-shapes'" in answer.json()["detail"]


def test_only_a_node_that_has_the_lora_gets_the_job(api: TestClient, with_lora: FakeAgent) -> None:
    plain = FakeAgent.enrol(api, "agx1")
    plain.lease()
    api.post(GENERATE, json={"prompt": "x", "lora": "night"})
    assert plain.lease(wait=0.3)["lease"] is None
    assert with_lora.take()["payload"]["lora"] == "night"


def test_a_lora_that_no_node_has_any_more(api: TestClient, with_lora: FakeAgent) -> None:
    job = api.post(GENERATE, json={"prompt": "x", "lora": "night"}).json()
    with_lora.capabilities = {**with_lora.capabilities, "loras": []}
    with_lora.restart()
    assert with_lora.lease()["lease"] is None
    found = api.get(f"/api/vision/jobs/{job['job_id']}").json()
    assert found["is_possible"] is False
    assert "has the LoRA 'night'" in found["reason"]
