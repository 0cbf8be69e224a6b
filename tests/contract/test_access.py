"""Keys, tokens, sessions and the audit log through the API."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.access.callers import Role
from fleet_api.access.keys import REMEMBERED_SECONDS, create_key, revoke_key
from tests.support.agent import FakeAgent
from tests.support.clock import ManualClock


def new_key(api: TestClient, name: str = "alice", role: str = "viewer", **more: Any) -> dict[str, Any]:
    answer = api.post("/api/keys", json={"name": name, "role": role, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def as_key(key: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['key']}"}


def test_a_key_is_shown_once_and_stored_as_a_hash(api: TestClient) -> None:
    made = new_key(api)
    assert made["key"].startswith("fleet-key_")
    assert made["key"].startswith(made["hint"].removesuffix("..."))
    [listed] = api.get("/api/keys").json()["keys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    database = b"".join(path.read_bytes() for path in api.app.state.fleet.settings.home.glob("fleet.db*"))
    assert made["key"].encode() not in database
    assert made["key"].split("_", 1)[1].encode() not in database


def test_a_viewer_looks_and_an_operator_works(api: TestClient, agent: FakeAgent) -> None:
    viewer, operator = new_key(api), new_key(api, "bob", "operator")
    assert api.get("/api/session", headers=as_key(viewer)).json() == {
        "name": "alice", "role": "viewer", "kind": "key", "csrf_token": None,
    }  # fmt: skip
    refused = api.post("/api/vision/generate", json={"prompt": "x"}, headers=as_key(viewer))
    assert refused.status_code == 403
    assert refused.json()["detail"] == "This wants the role operator; key 'alice' has the role viewer."
    assert api.post("/api/vision/generate", json={"prompt": "x"}, headers=as_key(operator)).status_code == 201
    assert api.get("/api/keys", headers=as_key(operator)).status_code == 403


def test_expiry(api: TestClient, clock: ManualClock) -> None:
    made = new_key(api, expires_in_days=1)
    clock.advance(86_399)
    assert api.get("/api/nodes", headers=as_key(made)).status_code == 200
    clock.advance(2)
    refused = api.get("/api/nodes", headers=as_key(made))
    assert refused.status_code == 401
    assert "'alice' has expired" in refused.json()["detail"]
    assert api.get("/api/keys").json()["keys"][0]["status"] == "expired"


def test_a_session_ends_with_its_key(api: TestClient, clock: ManualClock) -> None:
    made = new_key(api, expires_in_days=0.1)
    answer = api.post("/api/session", json={"key": made["key"]})
    assert "Max-Age=8640" in answer.headers["set-cookie"]
    assert api.get("/api/session").json()["kind"] == "key"
    clock.advance(8_641)
    assert api.get("/api/session").status_code == 401


def test_revoking_works_at_once_and_by_name_or_id(api: TestClient) -> None:
    one, two = new_key(api, "one"), new_key(api, "two")
    assert api.get("/api/nodes", headers=as_key(one)).status_code == 200
    assert api.delete("/api/keys/one").json()["status"] == "revoked"
    assert api.get("/api/nodes", headers=as_key(one)).status_code == 401
    assert api.delete(f"/api/keys/{two['id']}").status_code == 200
    assert api.delete(f"/api/keys/{two['id']}").status_code == 409
    assert api.delete("/api/keys/nobody").status_code == 404
    assert new_key(api, "one")["id"] != one["id"], "the name is free again"


def test_one_revoked_by_the_command_stops_within_a_second(api: TestClient, clock: ManualClock) -> None:
    fleet = api.app.state.fleet
    _, key = api.portal.call(create_key, fleet.db, clock, "x", Role.VIEWER)
    headers = {"X-API-Key": key}
    assert api.get("/api/nodes", headers=headers).status_code == 200
    api.portal.call(revoke_key, fleet.db, clock, "x")
    clock.advance(REMEMBERED_SECONDS)
    assert api.get("/api/nodes", headers=headers).status_code == 401


def test_names_are_taken_once(api: TestClient) -> None:
    new_key(api)
    refused = api.post("/api/keys", json={"name": "alice", "role": "admin"})
    assert refused.status_code == 409
    assert "'alice'" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ["name is required"]),
        ({"name": "x"}, ["role is required"]),
        ({"name": "", "role": "admin"}, ["name", "from 1 to 100"]),
        ({"name": "x" * 101, "role": "admin"}, ["name", "from 1 to 100"]),
        ({"name": "x\x00", "role": "admin"}, ["name", "pattern"]),
        ({"name": "a/b", "role": "admin"}, ["name", "'a/b'", "pattern"]),
        ({"name": "x", "role": "root"}, ["role", "'root'", "viewer, operator, admin"]),
        ({"name": "x", "role": "viewer", "expires_in_days": 0}, ["expires_in_days", "0"]),
        ({"name": "x", "role": "viewer", "expires_in_days": 1e9}, ["expires_in_days", "3650"]),
        ({"name": "x", "role": "viewer", "expires_in_days": "soon"}, ["expires_in_days", "'soon'"]),
    ],
)
def test_hostile_keys(api: TestClient, body: dict[str, Any], words: list[str]) -> None:
    answer = api.post("/api/keys", json=body)
    assert answer.status_code == 400
    assert all(word in answer.json()["detail"] for word in words), answer.text


def test_last_use_is_noted(api: TestClient, clock: ManualClock) -> None:
    made = new_key(api)
    assert api.get("/api/keys").json()["keys"][0]["last_used_at"] is None
    clock.advance(5)
    api.get("/api/nodes", headers=as_key(made))
    [listed] = api.get("/api/keys").json()["keys"]
    assert listed["last_used_from"] == "127.0.0.1"
    assert listed["last_used_at"] > listed["created_at"]


def test_connect_takes_a_key_in_its_body_where_one_is_wanted(api: TestClient) -> None:
    made = new_key(api)
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    assert api.post("/api/fleet/connect", json={"api_key": made["key"]}, headers=elsewhere).json()["status"] == "connected"
    for body in ({}, {"api_key": "fleet-commander-2024"}, None):
        assert api.post("/api/fleet/connect", json=body, headers=elsewhere).status_code == 401
    assert api.post("/api/fleet/connect", json={"api_key": "fleet-commander-2024"}).status_code == 200, "ignored on this machine"


def test_the_audit_log_says_who_what_from_where_and_how_it_ended(api: TestClient, agent: FakeAgent) -> None:
    made = new_key(api, "bob", "operator")
    job = api.post("/api/vision/generate", json={"prompt": "x"}, headers={**as_key(made), "X-Request-Id": "r-1"}).json()
    api.post(f"/api/vision/jobs/{job['job_id']}/cancel", headers=as_key(made))
    api.delete("/api/keys/nobody")
    api.delete("/api/keys/bob", headers=as_key(made))
    api.post("/api/vision/generate", json={"prompt": "x"}, headers={"X-API-Key": "wrong"})
    entries = api.get("/api/audit").json()["entries"]
    told = [(each["caller_name"], each["row"], each["status"]) for each in entries]
    assert told == [
        ("", "POST /api/vision/generate", 401),
        ("bob", "DELETE /api/keys/{key_id}", 403),
        ("local", "DELETE /api/keys/{key_id}", 404),
        ("bob", "POST /api/vision/jobs/{job_id}/cancel", 200),
        ("bob", "POST /api/vision/generate", 201),
        ("local", "POST /api/keys", 201),
        ("agx0", "POST /api/agents/enrol", 201),
    ]
    assert entries[3]["path"] == f"/api/vision/jobs/{job['job_id']}/cancel"
    assert entries[4]["request_id"] == "r-1"
    assert {each["address"] for each in entries} == {"127.0.0.1"}
    assert entries[-1]["caller_kind"] == "agent"
    assert made["key"] not in str(entries)


def test_the_audit_log_is_paged_and_filtered(api: TestClient, clock: ManualClock) -> None:
    made = new_key(api, "bob", "operator")
    for _ in range(5):
        clock.advance(10)
        api.post("/api/queue/jobs", json={}, headers=as_key(made))
    first = api.get("/api/audit?limit=2").json()
    second = api.get(f"/api/audit?limit=2&before={first['next']}").json()
    assert len({each["seq"] for each in first["entries"] + second["entries"]}) == 4
    mine = api.get(f"/api/audit?caller_id={made['id']}").json()
    assert [each["caller_name"] for each in mine["entries"]] == ["bob"] * 5
    assert mine["next"] is None
    since = mine["entries"][2]["at"].replace("+", "%2B")
    assert len(api.get(f"/api/audit?since={since}").json()["entries"]) == 3
    assert len(api.get(f"/api/audit?until={since}").json()["entries"]) == 3
    assert api.get("/api/audit?since=yesterday").status_code == 400


def test_looking_is_not_audited(api: TestClient, agent: FakeAgent) -> None:
    before = len(api.get("/api/audit").json()["entries"])
    api.get("/api/nodes")
    agent.beat()
    agent.lease()
    assert len(api.get("/api/audit").json()["entries"]) == before


def test_refusals_of_strangers_cannot_fill_the_disk(api: TestClient) -> None:
    for _ in range(260):
        api.post("/api/queue/jobs", headers={"X-API-Key": "wrong"})
    assert len(api.get("/api/audit?limit=500").json()["entries"]) == 200


def enrol(api: TestClient, token: str, machine_id: str, hostname: str = "box") -> Any:
    return api.post("/api/agents/enrol", json={"token": token, "hostname": hostname, "machine_id": machine_id})


def test_a_token_for_a_node_makes_that_node(api: TestClient) -> None:
    token = api.post("/api/agents/tokens", json={"node_id": "agx7"}).json()
    assert token["node_id"] == "agx7"
    assert token["token"].split(".")[1:] == ["agx7", ""]
    assert enrol(api, token["token"], "m1").json()["node_id"] == "agx7"
    assert enrol(api, token["token"], "m2").status_code == 401, "once"


def test_a_machine_that_is_another_node_is_not_renamed_by_a_token(api: TestClient) -> None:
    FakeAgent.enrol(api, "first", "m1")
    token = api.post("/api/agents/tokens", json={"node_id": "second"}).json()["token"]
    refused = enrol(api, token, "m1")
    assert refused.status_code == 409
    assert "'first'" in refused.json()["detail"]
    assert enrol(api, token, "m2").json()["node_id"] == "second", "the token was not spent"


def test_a_replaced_machine_takes_over_its_node(api: TestClient) -> None:
    old = FakeAgent.enrol(api, "agx0", "m1")
    token = api.post("/api/agents/tokens", json={"node_id": "agx0"}).json()["token"]
    assert enrol(api, token, "m2").json()["node_id"] == "agx0"
    assert api.post("/api/agents/beat", json={"incarnation": "i"}, headers=old.headers).status_code == 401


@pytest.mark.parametrize("node_id", ["jetpack", "heartbeats", "Upper", "a b", "-a", "x" * 49, ""])
def test_node_ids_that_are_none(api: TestClient, node_id: str) -> None:
    answer = api.post("/api/agents/tokens", json={"node_id": node_id})
    assert answer.status_code in (400, 409)
    assert "node_id" in answer.json()["detail"]


def test_an_expired_token(api: TestClient, clock: ManualClock) -> None:
    token = api.post("/api/agents/tokens", json={"expires_in_minutes": 1}).json()["token"]
    clock.advance(61)
    assert enrol(api, token, "m1").status_code == 401


def test_an_agent_speaks_for_its_own_node_alone(api: TestClient, agent: FakeAgent) -> None:
    other = FakeAgent.enrol(api, "agx1")
    other.lease()
    job = api.post("/api/vision/generate", json={"prompt": "x"}).json()
    taken = agent.lease(wait=5)["lease"]
    assert taken["job_id"] == job["job_id"]
    other.incarnation = agent.incarnation
    assert other.upload(taken, b"x").status_code == 403
    assert other.complete(taken, b"x").status_code == 403
    assert other.fail(taken).status_code == 403
    assert other.beat(taken) == [{"job_id": taken["job_id"], "attempt": taken["attempt"]}], "told to stop, and nothing renewed"
    assert api.get("/api/nodes", headers=agent.headers).status_code == 403
    assert api.post("/api/vision/jobs/stop-all", headers=agent.headers).status_code == 403
    agent.finish(taken)


def test_there_is_no_authority_where_there_is_no_tls(api: TestClient) -> None:
    assert api.get("/api/agents/ca").status_code == 404
