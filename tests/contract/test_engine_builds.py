"""An order to build engines stands in each answer to a beat until its operation ends; what is built goes into the store."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.settings import Settings
from gpu_inference.protocol_engines import engine_key
from tests.support.agent import CAPABILITIES, FakeAgent
from tests.support.models import lora

PLAN = b"an engine" * 1000


INK = {"name": "ink", "strength": 0.6}


def builder(api: TestClient, name: str = "agx0", builds: bool = True, **more: Any) -> FakeAgent:
    agent = FakeAgent.enrol(api, name)
    agent.capabilities = {**CAPABILITIES, "builds": builds, **more}
    agent.lease()
    beat(agent)
    return agent


def beat(agent: FakeAgent, **build: Any) -> dict[str, Any] | None:
    body = {"incarnation": agent.incarnation, **({"build": build, "state": "building"} if build else {})}
    answer = agent.api.post("/api/agents/beat", headers=agent.headers, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["build"]  # type: ignore[no-any-return]


def order(api: TestClient, node_id: str = "agx0", model: str = "other-model", status: int = 201, **more: Any) -> dict[str, Any]:
    answer = api.post(f"/api/vision/nodes/{node_id}/engines", json={"model": model, **more})
    assert answer.status_code == status, answer.text
    return answer.json()  # type: ignore[no-any-return]


def told(agent: FakeAgent) -> dict[str, Any]:
    due = time.monotonic() + 10
    while (found := beat(agent)) is None:
        assert time.monotonic() < due, "the agent is not told"
        time.sleep(0.02)
    return found


def reached(api: TestClient, operation: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    due = time.monotonic() + 10
    while True:
        row: dict[str, Any] = api.get(f"/api/operations/{operation['id']}").json()
        if all(row[name] == value for name, value in wanted.items()):
            return row
        assert time.monotonic() < due, row
        time.sleep(0.02)


def said(**more: Any) -> dict[str, Any]:
    return {"model": "m", "network": "unet", "architecture": "sm_87", "tensorrt": "10.3.0", "precision": "fp16", "graph": "a", **more}


def offered(agent: FakeAgent, data: bytes = PLAN, key: str = "", **more: Any) -> Any:
    described = said(**more)
    body = {"key": key or engine_key(described), "said": described, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    headers = {**agent.headers, "Content-Type": "application/json"}
    return agent.api.post("/api/agents/engines", headers=headers, content=json.dumps(body))


def given(agent: FakeAgent, data: bytes = PLAN, digest: str = "", **more: Any) -> Any:
    headers = {**agent.headers, "X-Content-SHA256": digest or hashlib.sha256(data).hexdigest()}
    return agent.api.put(f"/api/agents/engines/{engine_key(said(**more))}", headers=headers, content=data)


def kept(api: TestClient) -> list[tuple[str, str]]:
    return [(each["network"], each["node_id"]) for each in api.get("/api/vision/engines").json()["engines"]]


def test_an_order_stands_until_it_is_done_and_shows_how_far_it_is(api: TestClient) -> None:
    agent = builder(api)
    operation = order(api)
    assert (operation["kind"], operation["title"]) == ("engine_build", "Build the engines of other-model on agx0")
    standing = told(agent)
    assert standing == {"id": operation["id"], "model": "other-model", "loras": []}
    assert beat(agent, id=operation["id"], state="building", what="unet", done=2, total=4) == standing
    row = reached(api, operation, step="building unet (2 of 4)")
    assert 45 < row["progress"] < 55
    assert api.get("/api/vision/nodes").json()["nodes"][0]["status"] == "busy"
    assert beat(agent, id="of-another-order", state="done") == standing, "a report of an order before it ends nothing"
    beat(agent, id=operation["id"], state="done", done=4, total=4, built=3, fetched=1)
    row = reached(api, operation, state="succeeded")
    assert row["result"] == {"node_id": "agx0", "model": "other-model", "built": 3, "fetched": 1}
    assert beat(agent) is None


def test_a_failure_is_told_in_the_agents_words(api: TestClient) -> None:
    agent = builder(api)
    operation = order(api)
    told(agent)
    beat(agent, id=operation["id"], state="failed", error="TensorRT did not build an engine of unet; its log tells why.")
    assert reached(api, operation, state="failed")["reason"] == "TensorRT did not build an engine of unet; its log tells why."
    assert beat(agent) is None


def test_a_cancel_takes_the_order_back(api: TestClient) -> None:
    agent = builder(api)
    operation = order(api)
    told(agent)
    assert api.post(f"/api/operations/{operation['id']}/cancel").status_code == 200
    reached(api, operation, state="cancelled")
    assert beat(agent) is None


def test_jobs_wait_or_go_elsewhere_meanwhile_and_are_told_why(api: TestClient) -> None:
    agent = builder(api)
    beat(agent, id="x", state="building")
    job = api.post("/api/vision/generate", json={"prompt": "x", "model": "fleet-shapes"}).json()["job_id"]
    assert "it is building engines of TensorRT" in api.get(f"/api/vision/jobs/{job}?explain=true").json()["explanation"]
    beat(agent)
    assert agent.take()["job_id"] == job


def test_what_cannot_be_ordered(api: TestClient) -> None:
    assert "There is no node" in order(api, status=404)["detail"]
    builder(api, "agx1", builds=False)
    assert "finds no TensorRT" in order(api, "agx1", status=409)["detail"]
    builder(api)
    assert "it has: fleet-shapes, other-model." in order(api, model="nope", status=404)["detail"]


def test_two_orders_of_a_node_come_one_after_the_other(api: TestClient) -> None:
    agent = builder(api)
    first, second = order(api), order(api, model="fleet-shapes")
    assert told(agent)["id"] == first["id"]
    beat(agent, id=first["id"], state="done")
    reached(api, first, state="succeeded", node_ids=["agx0"])
    while (standing := told(agent))["id"] == first["id"]:
        time.sleep(0.02)
    assert standing == {"id": second["id"], "model": "fleet-shapes", "loras": []}


def with_loras(builds_loras: bool = True) -> dict[str, Any]:
    loras = [{"name": "ink", "base_model": "other-model"}, {"name": "night", "base_model": "fleet-shapes"}]
    return {"loras": loras, "builds_loras": builds_loras}


def test_loras_go_with_the_order(api: TestClient) -> None:
    agent = builder(api, **with_loras())
    operation = order(api, loras=[INK, {"name": "ink"}])
    assert operation["title"] == "Build the engines of other-model with ink:0.6, ink:0.8 on agx0"
    assert told(agent) == {"id": operation["id"], "model": "other-model", "loras": [INK, {"name": "ink", "strength": 0.8}]}
    beat(agent, id=operation["id"], state="done", done=4, total=4, built=1)
    reached(api, operation, state="succeeded")


def test_loras_that_the_node_has_not_for_this_model(api: TestClient) -> None:
    builder(api, **with_loras())
    for name in ("night", "oil"):
        refused = order(api, status=404, loras=[INK, {"name": name}])["detail"]
        assert f"node 'agx0' has no LoRA '{name}' of the model 'other-model'; it has: ink." in refused


def test_an_agent_that_does_not_know_loras_is_never_told_to_build_without_them(api: TestClient) -> None:
    builder(api, **with_loras(builds_loras=False))
    assert "builds no engines with LoRAs" in order(api, status=409, loras=[INK])["detail"]
    agent = builder(api, "agx1", **with_loras())
    operation = order(api, "agx1", loras=[INK])
    told(agent)
    older = {"incarnation": "older", "capabilities": {**CAPABILITIES, "builds": True, "loras": with_loras()["loras"]}}
    assert api.post("/api/agents/beat", headers=agent.headers, json=older).json()["build"] is None
    assert "update it with 'fleet vision install agx1'" in reached(api, operation, state="failed")["reason"]


def test_an_engine_goes_into_the_store_and_out_again(api: TestClient, settings: Settings) -> None:
    agent, other = builder(api), builder(api, "agx1")
    assert offered(agent).json()["wanted"]
    assert given(other).status_code == 404, "who did not offer it may not give it"
    assert given(agent).status_code == 204
    assert kept(api) == [("unet", "agx0")]
    found = other.api.get(f"/api/agents/engines/{engine_key(said())}", headers=other.headers)
    assert (found.status_code, found.content) == (200, PLAN)
    assert found.headers["X-Content-SHA256"] == hashlib.sha256(PLAN).hexdigest()
    answer = offered(other, b"another").json()
    assert (answer["wanted"], answer["reason"]) == (False, "It is there already."), "nobody puts another in its place"
    assert offered(other, model="of another name").json()["wanted"] is False, "the model's name is no part of what it is"
    assert api.post("/api/vision/models/scan").json() == {"found": [], "gone": [], "refused": []}
    key = engine_key(said())
    assert api.delete(f"/api/vision/engines/{key}").json() == {"deleted": 1}
    assert other.api.get(f"/api/agents/engines/{key}", headers=other.headers).status_code == 404
    assert not [each for each in settings.models.rglob("*") if each.is_file()]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"key": "0" * 32}, 400),
        ({"network": 5}, 400),
        ({"model": ""}, 400),
        ({"graph": "x" * 70_000}, 400),
        ({"key": "../../x"}, 400),
        ({"model": "\ud800"}, 400),
        ({"graph": "a\x00b"}, 400),
    ],
)
def test_an_offer_that_lies_is_refused(api: TestClient, change: dict[str, Any], status: int) -> None:
    answer = offered(builder(api), **change)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(("key", "said"))


@pytest.mark.parametrize(("data", "digest"), [(b"short", ""), (PLAN + b"more", ""), (b"x" * len(PLAN), ""), (b"x" * len(PLAN), "same")])
def test_bytes_that_are_not_the_engine_are_refused_and_leave_nothing(api: TestClient, settings: Settings, data: bytes, digest: str) -> None:
    agent = builder(api)
    assert offered(agent).json()["wanted"]
    answer = given(agent, data, hashlib.sha256(PLAN).hexdigest() if digest or len(data) != len(PLAN) else "")
    assert answer.status_code == 400, answer.text
    assert kept(api) == []
    assert not [each for each in settings.engine_uploads.rglob("*") if each.is_file()]
    assert given(agent).status_code == 204, "the engine itself may come after that"


def test_what_is_oldest_makes_room(api: TestClient, settings: Settings) -> None:
    agent = builder(api)
    api.app.state.fleet.engine_shelf.limit = int(2.5 * len(PLAN))  # type: ignore[attr-defined]
    for network in ("text_encoder", "unet", "vae_decoder"):
        assert offered(agent, network=network).json()["wanted"]
        assert given(agent, network=network).status_code == 204
        for each in settings.models.rglob("*.plan"):
            os.utime(each, (0, each.stat().st_mtime - 3600))  # an hour passes
    assert [network for network, _ in kept(api)] == ["unet", "vae_decoder"]
    answer = offered(agent, PLAN * 3, network="large").json()
    assert (answer["wanted"], answer["reason"].startswith("The store keeps")) == (False, True)


def test_small_ones_are_not_kept_without_end(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_api.engines.shelf.MOST_ENGINES", 3)
    agent = builder(api)
    for number in range(5):
        assert offered(agent, b"x", network=f"n{number}").json()["wanted"]
        assert given(agent, b"x", network=f"n{number}").status_code == 204
    assert len(kept(api)) == 3


def test_a_record_that_is_no_record_is_left_out(api: TestClient, settings: Settings) -> None:
    agent = builder(api)
    assert offered(agent).json()["wanted"]
    assert given(agent).status_code == 204
    [record] = settings.models.rglob("*.json")
    record.write_text("[]")
    assert kept(api) == []
    assert agent.api.get(f"/api/agents/engines/{record.stem}", headers=agent.headers).status_code == 404


def test_what_has_loras_in_its_weights_says_which(api: TestClient) -> None:
    data = lora("fleet-shapes")
    ink = hashlib.sha256(data).hexdigest()
    agent = builder(api)
    for said_loras in ([[ink, 0.6], ["b" * 64, -1]], "none", [[ink], [5, 0.5], [ink, "x"], [ink, 10**400], [ink, 0.25]]):
        assert offered(agent, loras=said_loras).json()["wanted"]
        assert given(agent, loras=said_loras).status_code == 204

    def shown() -> list[list[tuple[str | None, str, float]]]:
        found = api.get("/api/vision/engines").json()["engines"]
        return sorted([(each["name"], each["sha256"], each["strength"]) for each in engine["loras"]] for engine in found)

    assert shown() == [[], [(None, ink, 0.25)], [(None, ink, 0.6), (None, "b" * 64, -1.0)]]
    assert api.post("/api/vision/loras/upload", files={"file": ("ink.safetensors", data)}, data={"name": "ink"}).status_code == 201
    assert shown() == [[], [("ink", ink, 0.25)], [("ink", ink, 0.6), (None, "b" * 64, -1.0)]]
