"""Enrolment, beats and liveness."""

from __future__ import annotations

import json

from fastapi.testclient import TestClient

from fleet_api.access.enrolment import TOKEN_LIFETIME, create_token
from tests.support.agent import FakeAgent
from tests.support.clock import ManualClock

METRICS = {
    "cpu": 12.5, "memory": 40, "memory_total_mib": 8000, "disk": 61, "disk_free_mib": 100, "gpu": 30, "gpu_memory": 2048,
    "gpu_memory_total_mib": 8192, "temperature": 51.5,
}  # fmt: skip


def test_a_node_shows_what_its_agent_reports(api: TestClient, agent: FakeAgent) -> None:
    agent.beat(metrics=METRICS, facts={"arch": "aarch64"})
    [node] = api.get("/api/nodes").json()["nodes"]
    assert (node["id"], node["status"], node["cpu"], node["gpu_memory"], node["temperature"]) == ("agx0", "online", 12.5, 25.0, 51.5)
    assert node["last_seen"].endswith("Z")
    detail = api.get("/api/nodes/agx0/").json()
    assert detail["facts"] == {"arch": "aarch64"}
    assert detail["models"] == ["fleet-shapes", "other-model"]
    [beat] = api.get("/api/nodes/heartbeats").json()["heartbeats"]
    assert (beat["node_id"], beat["age_seconds"], beat["gpu_memory"]) == ("agx0", 0.0, 25.0)


def test_a_node_that_missed_three_beats_is_offline_and_back_with_the_next(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    agent.beat(metrics=METRICS)
    with api.websocket_connect("/ws?types=node_update") as events:
        clock.advance(6.1)
        api.portal.call(api.app.state.fleet.nodes.check_silence)
        told = events.receive_json()
        assert (told["type"], told["data"]["id"], told["data"]["status"]) == ("node_update", "agx0", "offline")
        shown = api.get("/api/nodes/agx0").json()
        assert (shown["status"], shown["cpu"], shown["temperature"]) == ("offline", 0, None)
        assert api.get("/api/vision/status").json()["offline_nodes"] == 1
        agent.beat(metrics=METRICS)
        assert events.receive_json()["data"]["status"] == "online"


def test_metrics_stream_has_mebibytes_and_numbers(api: TestClient, agent: FakeAgent) -> None:
    agent.beat(metrics=METRICS)
    with api.websocket_connect("/ws/metrics") as stream:
        message = stream.receive_json()
    assert message["type"] == "metrics"
    assert message["timestamp"].endswith("Z")
    assert message["nodes"]["agx0"] == {
        "cpu": 12.5, "memory": 40, "gpu": 30, "gpu_memory": 2048, "temperature": 51.5, "disk": 61, "status": "online",
    }  # fmt: skip


def test_events_are_filtered_by_type(api: TestClient, agent: FakeAgent) -> None:
    with api.websocket_connect("/ws?types=job_complete,job_progress") as events:
        job_id = api.post("/api/vision/generate", json={"prompt": "x"}).json()["job_id"]
        lease = agent.take()
        agent.beat(lease, step=5, metrics=METRICS)
        agent.finish(lease)
        started, progress, complete = (events.receive_json() for _ in range(3))
    assert (started["type"], started["data"]["progress"], started["data"]["status"]) == ("job_progress", 0, "processing")
    assert (progress["type"], progress["data"]["job_id"], progress["data"]["progress"]) == ("job_progress", job_id, 25)
    assert (complete["type"], complete["data"]["status"], complete["data"]["error"]) == ("job_complete", "completed", None)
    assert complete["data"]["result"]["image_url"].startswith("/api/vision/outputs/")


def test_a_token_is_good_once_and_for_an_hour(api: TestClient, clock: ManualClock) -> None:
    fleet = api.app.state.fleet
    token = api.portal.call(create_token, fleet.db, clock)
    body = {"token": token, "hostname": "agx0", "machine_id": "m"}
    assert api.post("/api/agents/enrol", json=body).status_code == 201
    again = api.post("/api/agents/enrol", json=body)
    assert (again.status_code, "used" in again.json()["detail"]) == (401, True)
    old = api.portal.call(create_token, fleet.db, clock)
    clock.advance(TOKEN_LIFETIME + 1)
    assert api.post("/api/agents/enrol", json={**body, "token": old}).status_code == 401
    assert len(api.get("/api/nodes").json()["nodes"]) == 1


def test_a_machine_that_enrols_again_keeps_its_name_and_loses_its_old_credential(api: TestClient, agent: FakeAgent) -> None:
    second = FakeAgent.enrol(api, "agx0", node_id="agx0")
    assert second.node_id == "agx0"
    second.lease()
    answer = api.post("/api/agents/beat", headers=agent.headers, json={"incarnation": "x"})
    assert answer.status_code == 401


def test_names_are_slugs_and_never_taken_twice(api: TestClient) -> None:
    names = [FakeAgent.enrol(api, host, f"m{i}").node_id for i, host in enumerate(["AGX_0.lan", "agx-0", "heartbeats", "jetpack", "日本"])]
    assert names == ["agx-0", "agx-0-2", "heartbeats-2", "jetpack-2", "node"]


def test_an_agent_in_a_container_does_not_take_its_nodes_address(api: TestClient) -> None:
    first = FakeAgent.enrol(api, "container-of-agx0", node_id="a-container")
    at = api.get(f"/api/nodes/{first.node_id}").json()["ip"]
    state = api.app.state.fleet
    assert state.nodes.at(at, 22).id == first.node_id, "the only one there"
    credential = api.post("/api/vault", json={"name": "shelf", "username": "nvidia", "password": "shelf"}).json()["id"]
    assert api.post("/api/nodes", json={"id": "agx0", "ip": "192.0.2.10", "credential_id": credential}).status_code == 201
    api.portal.call(lambda: state.nodes.change(first.node_id, ip="192.0.2.10"))
    FakeAgent.enrol(api, "another-container", node_id="z-container")
    api.portal.call(lambda: state.nodes.change("z-container", ip="192.0.2.10"))
    assert state.nodes.at("192.0.2.10", 22).id == "agx0"
    assert state.nodes.by_address()["192.0.2.10"].id == "agx0"


def test_no_secret_is_stored(api: TestClient, agent: FakeAgent) -> None:
    secret = agent.headers["Authorization"].split()[1]
    home = api.app.state.fleet.settings.home
    for path in home.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert secret not in json.dumps(api.get("/api/nodes/agx0").json())
