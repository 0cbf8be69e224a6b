"""Deploys that meet others, are cancelled, or name what is there already."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_api.access import registry_identity
from fleet_api.kit.clock import SystemClock
from fleet_api.migrate import upgrade
from fleet_api.services.running import deploying
from fleet_api.settings import Settings
from tests.support.swarm import FakeFleet, fake_fleet

ADDRESS = "192.0.2.10:5000"
PLAIN = {"name": "web", "image": "web:1"}
DEPLOY = {"image": "web:1", "service_name": "web", "cluster": "vision"}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFleet]:
    monkeypatch.setattr(deploying, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(deploying, "STEADY_SECONDS", 0.02)
    (tmp_path / "roots" / "app").mkdir(parents=True)
    (tmp_path / "roots" / "app" / "Dockerfile").write_text("FROM base\n")
    settings = Settings(home=tmp_path / "home", build_roots=[str(tmp_path / "roots")])
    settings.home.mkdir()
    upgrade(settings.database)
    wanted = registry_identity.Wanted(ADDRESS, ("192.0.2.10",), "fleet")
    registry_identity.ensure(settings.registry_folder, settings.tls_folder, wanted, SystemClock().now())
    with fake_fleet(settings) as found:
        found.cluster()
        yield found


def deployed(fleet: FakeFleet, **more: Any) -> Any:
    row = fleet.ended(fleet.post("/api/build/deploy", {**DEPLOY, **more})["operation_id"])
    assert row["state"] == "succeeded", row["reason"]
    return fleet.get("/api/swarm/services/web")


def waiting(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start a deploy that goes on for long, and return its operation once the service is there."""
    monkeypatch.setattr(deploying, "STEADY_SECONDS", 600.0)
    operation_id: str = fleet.post("/api/build/deploy", DEPLOY)["operation_id"]
    deadline = time.monotonic() + 10
    while not fleet.world.services:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return operation_id


def test_waiting_changes_nothing_about_a_name_that_is_taken(fleet: FakeFleet) -> None:
    fleet.post("/api/swarm/services", {**PLAIN, "env": ["COLOUR=red"]})
    before = fleet.get("/api/swarm/services/web")
    for wait in (False, True):
        assert "already exists" in fleet.post("/api/swarm/services", {**PLAIN, "image": "web:2"}, 409, wait=wait)["detail"]
    assert fleet.get("/api/swarm/services/web") == before


def test_a_deploy_moves_a_service_to_the_cluster_that_it_names(fleet: FakeFleet) -> None:
    kitchen = fleet.cluster("kitchen", "agx2")
    assert deployed(fleet)["constraints"] == ["node.labels.cluster==vision"]
    assert deployed(fleet, cluster="kitchen")["constraints"] == ["node.labels.cluster==kitchen"]
    assert deployed(fleet, cluster=kitchen["id"])["constraints"] == ["node.labels.cluster==kitchen"], "an id names it as well"


def test_one_service_has_one_deploy_at_a_time(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    first = waiting(fleet, monkeypatch)
    both = {"image_name": "x", "tag": "v1", "dockerfile_path": "app", "service_name": "web", "cluster": "vision"}
    for path, body in (("/api/build/deploy", DEPLOY), ("/api/build/build-and-deploy", both)):
        assert f"already, by operation {first}" in fleet.post(path, body, 409)["detail"]
    fleet.post(f"/api/operations/{first}/cancel", None, 200)
    assert fleet.ended(first)["state"] == "cancelled"


def test_a_retry_waits_for_the_one_at_work(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = fleet.post("/api/build/deploy", {**DEPLOY, "image": "web:broken"})["operation_id"]
    assert fleet.ended(failed)["state"] == "failed"
    first = waiting(fleet, monkeypatch)
    again = fleet.post(f"/api/operations/{failed}/retry")["id"]
    time.sleep(0.2)
    assert fleet.get(f"/api/operations/{again}")["state"] == "queued"
    fleet.post(f"/api/operations/{again}/cancel", None, 200)
    fleet.post(f"/api/operations/{first}/cancel", None, 200)
    fleet.ended(first)


def test_a_cancelled_deploy_leaves_no_new_service(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    operation_id = waiting(fleet, monkeypatch)
    fleet.post(f"/api/operations/{operation_id}/cancel", None, 200)
    assert fleet.ended(operation_id)["state"] == "cancelled"
    assert fleet.get("/api/swarm/services") == []


def test_the_longest_names_are_no_fault(fleet: FakeFleet) -> None:
    body = {"image_name": "a" * 200, "tag": "b" * 128, "dockerfile_path": "app", "service_name": "web", "cluster": "vision"}
    started = fleet.post("/api/build/build-and-deploy", body)
    assert fleet.ended(started["operation_id"])["state"] == "failed", "there is no engine here to build with"


@pytest.mark.parametrize("name", [".", "..", "-x", "_", "%2e"])
def test_names_that_would_be_other_paths_of_the_engine(fleet: FakeFleet, name: str) -> None:
    state = fleet.api.app.state.fleet  # type: ignore[attr-defined]
    from fleet_api.errors import NotFound

    for call in (
        lambda: state.containers.logs(None, name, 5),
        lambda: state.containers.act(name, "stop"),
        lambda: state.containers.remove("agx0", name),
        lambda: state.running.get(name),
    ):
        with pytest.raises(NotFound, match=r"There is no (container|service) '"):
            fleet.api.portal.call(call)  # type: ignore[union-attr]


def test_an_update_that_no_node_takes_is_taken_back(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "PENDING_SECONDS", 0.05)
    fleet.post("/api/swarm/services", PLAIN)
    told = fleet.post("/api/swarm/services/web/update", {"image": "web:waits"}, 200)
    assert (told["status"], told["message"], told["error"]) == ("failed", "no node takes its tasks", "no suitable node (1 node)")
    assert (fleet.get("/api/swarm/services/web")["image"], fleet.get("/api/swarm/services/web")["running"]) == ("web:1", 1)
    told = fleet.post("/api/swarm/services/web/update", {"image": "web:waits"}, 200, force=True)
    assert told["status"] == "failed"
    assert fleet.get("/api/swarm/services/web")["image"] == "web:waits", "it waits for a node, as was asked for"


def test_a_cancelled_update_is_taken_back(fleet: FakeFleet) -> None:
    fleet.post("/api/swarm/services", PLAIN)
    operation_id = fleet.post("/api/build/deploy", {**DEPLOY, "image": "web:waits"})["operation_id"]
    deadline = time.monotonic() + 10
    while fleet.get("/api/swarm/services/web")["image"] != "web:waits":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    fleet.post(f"/api/operations/{operation_id}/cancel", None, 200)
    assert fleet.ended(operation_id)["state"] == "cancelled"
    assert fleet.get("/api/swarm/services/web")["image"] == "web:1"


def test_a_new_service_that_no_node_takes_stays_only_where_it_was_forced(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "PENDING_SECONDS", 0.05)
    for force, there in ((False, []), (True, ["web"])):
        body = {**PLAIN, "image": "web:waits"}
        assert "no suitable node" in fleet.post("/api/swarm/services", body, 409, wait=True, force=force)["detail"]
        assert [each["name"] for each in fleet.get("/api/swarm/services")] == there
