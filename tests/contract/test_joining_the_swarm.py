"""Machines that are onboarded where there is a swarm: every way in ends in it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.adapters.docker.errors import EngineAway
from fleet_api.adapters.docker.fake import FakeEngines
from fleet_api.adapters.docker.fake_swarm import FakeDocker, FakeWorld
from fleet_api.app import create_app
from fleet_api.nodes.discovery.devices import device
from fleet_api.nodes.discovery.service import Scan
from fleet_api.nodes.discovery.sweep import Found
from fleet_api.services.swarm.labels import INFERENCE
from fleet_api.settings import Settings
from tests.contract.test_onboarding import Enrolling
from tests.support.client import client_of
from tests.support.machines import FakeSsh, Machine

FIRST, SECOND = "10.0.0.11", "10.0.0.12"


@dataclass
class Shelf:
    """Two bare machines, each with an engine."""

    api: TestClient
    engines: FakeEngines
    world: FakeWorld
    plays: Enrolling

    def post(self, path: str, body: Any, status: int = 201) -> Any:
        answer = self.api.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def ended(self, operation_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while (row := self.api.get(f"/api/operations/{operation_id}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, row
            time.sleep(0.02)
        return dict(row)


@pytest.fixture
def shelf(settings: Settings, _empty_database: Path) -> Iterator[Shelf]:
    settings = settings.model_copy(update={"advertise_url": "http://10.0.0.1:8765"})
    settings.home.mkdir()
    shutil.copy(_empty_database, settings.database)
    world, plays = FakeWorld(), Enrolling()
    engines = FakeEngines(agx0=FakeDocker(world, "agx0", FIRST), agx1=FakeDocker(world, "agx1", SECOND))
    ssh = FakeSsh(**{FIRST: Machine("agx0", "machine 0"), SECOND: Machine("agx1", "machine 1")})
    with client_of(create_app(settings, None, plays, ssh, engines)) as api:
        plays.api = api
        yield Shelf(api, engines, world, plays)


def test_a_bare_machine_comes_into_the_swarm_in_one_request(shelf: Shelf) -> None:
    body = {"node_ip": FIRST, "username": "nvidia", "password": "correct horse", "cluster": "vision"}
    joined = shelf.post("/api/swarm/join-remote", body)
    assert (joined["status"], joined["node_id"], joined["cluster"]) == ("success", "agx0", "vision")
    assert shelf.api.get("/api/swarm/status").json()["is_manager"] is True
    again = shelf.post("/api/swarm/join-remote", body)
    assert again["swarm_node_id"] == joined["swarm_node_id"]
    assert len(shelf.plays.seen) == 1, "it is a node already"
    second = shelf.post("/api/swarm/join-remote", {**body, "node_ip": SECOND})
    [member] = [each for each in shelf.api.get("/api/swarm/nodes").json() if each["id"] == second["swarm_node_id"]]
    assert (member["node_id"], member["role"], member["labels"]["cluster"]) == ("agx1", "worker", "vision")
    assert "correct horse" not in shelf.api.get("/api/operations").text


def test_onboarding_ends_in_the_swarm_where_there_is_one(shelf: Shelf) -> None:
    credential = shelf.post("/api/vault", {"name": "shelf", "username": "nvidia", "password": "x"})["id"]
    first = shelf.post("/api/network/join", {"ip": FIRST, "credential_id": credential})["operation_id"]
    assert shelf.ended(first)["state"] == "succeeded"
    assert shelf.api.get("/api/swarm/nodes").json() == [], "no swarm is formed by that alone"
    shelf.post("/api/clusters", {"name": "vision", "node_ids": ["agx0"]})
    second = shelf.post("/api/install-queue/queue", {"host": SECOND, "credential_id": credential, "cluster": "vision"})["job_id"]
    assert shelf.ended(second)["state"] == "succeeded"
    assert {each["node_id"] for each in shelf.api.get("/api/swarm/nodes").json()} == {"agx0", "agx1"}
    assert shelf.api.get("/api/clusters").json()[0]["node_ids"] == ["agx0", "agx1"]


def test_all_that_were_found_but_those_on_their_way(shelf: Shelf) -> None:
    state = shelf.api.app.state.fleet  # type: ignore[attr-defined]
    refused = shelf.post("/api/network/auto-join-all", {}, 409)
    assert "No scan was made" in refused["detail"]
    found = tuple(device(Found(ip, ports={22}), {}) for ip in (FIRST, SECOND))
    state.scanner._last = Scan(IPv4Network("10.0.0.0/24"), found, 0.0, 0.0)
    credential = shelf.post("/api/vault", {"name": "shelf", "username": "nvidia", "password": "x"})["id"]
    shelf.plays.gate = asyncio.Event()
    first = shelf.post("/api/install-queue/queue", {"host": FIRST, "credential_id": credential})["job_id"]
    every = shelf.post("/api/network/auto-join-all", {"cluster": "vision"})["operation_id"]
    assert shelf.api.get(f"/api/operations/{every}").json()["title"] == "Onboard 1 machine"
    deadline = time.monotonic() + 5
    while len(shelf.plays.running) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "or being made one" in shelf.post("/api/network/auto-join-all", {}, 409)["detail"]
    shelf.api.portal.call(shelf.plays.gate.set)  # type: ignore[union-attr]
    row = shelf.ended(every)
    assert (row["state"], row["result"]["machines"]) == ("succeeded", {SECOND: "succeeded"})
    assert shelf.ended(first)["state"] == "succeeded"
    assert "not a node already;" in shelf.post("/api/network/auto-join-all", {}, 409)["detail"]


def test_a_node_that_cannot_come_into_the_swarm_is_a_node_all_the_same(shelf: Shelf) -> None:
    shelf.post("/api/swarm/join-remote", {"node_ip": FIRST, "username": "nvidia", "password": "x"})
    shelf.engines.engines["agx1"].error = EngineAway("No Docker Engine answers on agx1; see that Docker is installed and runs there.")
    credential = shelf.post("/api/vault", {"name": "shelf", "username": "nvidia", "password": "x"})["id"]
    row = shelf.ended(shelf.post("/api/network/join", {"ip": SECOND, "credential_id": credential})["operation_id"])
    assert row["state"] == "failed"
    assert "It is a node now, but is not in the swarm: No Docker Engine answers" in row["reason"]
    assert shelf.api.get("/api/nodes/agx1").json()["status"] == "online"


def test_a_retired_node_leaves_the_swarm(shelf: Shelf) -> None:
    for ip in (FIRST, SECOND):
        shelf.post("/api/swarm/join-remote", {"node_ip": ip, "username": "nvidia", "password": "x"})
    refused = shelf.ended(shelf.post("/api/nodes/agx0/retire", None)["operation_id"])
    assert (refused["state"], "only manager" in refused["reason"]) == ("failed", True)
    labelled = shelf.api.post("/api/swarm/nodes/agx1/labels", json={"labels": {INFERENCE: "its agent goes with it"}})
    assert labelled.status_code == 200, labelled.text
    assert shelf.ended(shelf.post("/api/nodes/agx1/retire", None)["operation_id"])["state"] == "succeeded"
    assert {each["node_id"] for each in shelf.api.get("/api/swarm/nodes").json()} == {"agx0"}
    assert shelf.ended(shelf.post("/api/nodes/agx0/retire", None)["operation_id"])["state"] == "succeeded"
    assert shelf.api.get("/api/swarm/status").json()["nodes_count"] == 0
