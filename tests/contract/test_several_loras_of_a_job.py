"""Jobs with several LoRAs: which nodes take them, and what is refused at the door."""

from __future__ import annotations

from fastapi.testclient import TestClient

from tests.support.agent import FakeAgent

GENERATE = "/api/vision/generate"


def agent_with(api: TestClient, name: str, *loras: str) -> FakeAgent:
    agent = FakeAgent.enrol(api, name)
    known = [{"name": each, "base_model": "fleet-shapes"} for each in loras]
    agent.capabilities = {**agent.capabilities, "loras": known}
    return agent


def test_a_job_goes_to_the_node_that_has_all_of_them(api: TestClient) -> None:
    some, all_of_them = agent_with(api, "agx0", "night"), agent_with(api, "agx1", "night", "dusk")
    some.lease()
    all_of_them.lease()
    body = {"prompt": "x", "lora": "night", "loras": [{"name": "dusk", "strength": 0.4}]}
    assert api.post(GENERATE, json=body).status_code == 201
    assert some.lease()["lease"] is None
    payload = all_of_them.lease()["lease"]["payload"]
    assert (payload["lora"], payload["loras"]) == ("night", [{"name": "dusk", "strength": 0.4}])


def test_one_that_nobody_has_is_refused(api: TestClient) -> None:
    agent_with(api, "agx0", "night").lease()
    answer = api.post(GENERATE, json={"prompt": "x", "loras": [{"name": "night"}, {"name": "fog"}]})
    assert answer.status_code == 404
    assert "no LoRA 'fog'" in answer.json()["detail"]


def test_no_node_that_has_both_is_said_at_once(api: TestClient) -> None:
    for name, lora in (("agx0", "night"), ("agx1", "dusk")):
        agent_with(api, name, lora).lease()
    answer = api.post(GENERATE, json={"prompt": "x", "loras": [{"name": "night"}, {"name": "dusk"}]})
    said = answer.json()
    job = api.get(f"/api/queue/jobs/{said['job_id']}").json() if answer.status_code == 201 else {}
    assert "has the LoRAs 'dusk', 'night'" in f"{said} {job}"


def test_nine_are_too_many(api: TestClient) -> None:
    answer = api.post(GENERATE, json={"prompt": "x", "loras": [{"name": "night"}] * 9})
    assert answer.status_code == 400
    assert "8" in answer.json()["detail"]


def test_the_command_tells_names_and_strengths() -> None:
    from fleet_api.cli.generate import loras_of

    assert loras_of(["ink:0.6", "film"], 0.3) == [{"name": "ink", "strength": 0.6}, {"name": "film", "strength": 0.3}]
    assert loras_of(["ink"], None) == [{"name": "ink"}]
    assert loras_of([], 0.3) == []
