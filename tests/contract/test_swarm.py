"""Chapters swarm and clusters over REST, with engines in memory."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_api.services.clusters.schemas import ClusterBody
from fleet_api.services.running import deploying
from fleet_api.services.swarm.labels import INFERENCE
from fleet_api.settings import Settings
from tests.support.swarm import FakeFleet, fake_fleet

SERVICE = {"name": "vision-web", "image": "web:1"}


@pytest.fixture
def fleet(settings: Settings, _empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFleet]:
    monkeypatch.setattr(deploying, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(deploying, "STEADY_SECONDS", 0.02)
    settings.home.mkdir()
    shutil.copy(_empty_database, settings.database)
    with fake_fleet(settings) as found:
        yield found


def test_without_a_swarm_rows_say_so(fleet: FakeFleet) -> None:
    status = fleet.get("/api/swarm/status")
    assert (status["is_manager"], status["swarm_id"], status["nodes_count"]) == (False, None, 0)
    assert "POST /api/clusters" in status["reason"]
    assert fleet.get("/api/swarm/nodes") == fleet.get("/api/swarm/services") == fleet.get("/api/clusters") == []
    for path in ("/api/swarm/join-token", "/api/swarm/services/x"):
        assert "no swarm yet" in fleet.get(path, 409)["detail"]
    assert "no swarm yet" in fleet.post("/api/swarm/services", SERVICE, 409)["detail"]


def test_a_cluster_forms_the_swarm_on_its_manager(fleet: FakeFleet) -> None:
    made = fleet.post("/api/clusters", {"name": "vision", "cluster_type": "swarm", "node_ids": ["agx1"], "manager_node_id": "agx0"})
    assert (made["node_ids"], made["manager_node_id"], made["status"]) == (["agx0", "agx1"], "agx0", "active")
    assert made["operation_id"]
    assert made["created_at"].endswith("Z")
    status = fleet.get("/api/swarm/status")
    assert (status["is_manager"], status["swarm_id"], status["manager_addr"]) == (True, fleet.world.id, "10.0.0.1:2377")
    assert (status["nodes_count"], status["managers_count"], status["workers_count"], status["age_seconds"]) == (2, 1, 1, 0)
    first, second = fleet.get("/api/swarm/nodes")
    assert (first["node_id"], first["role"], first["status"], first["availability"], first["leader"]) == (
        "agx0", "manager", "ready", "active", True,
    )  # fmt: skip
    assert second["labels"] == {
        "cluster": "vision", "nvidia": "true", "l4t": "36.4.3", "jetpack": "6.2", "gpu_arch": "sm_87", "fleet.node": "agx1",
    }  # fmt: skip
    detail = fleet.get("/api/clusters/vision/status")
    assert (detail["online_count"], detail["total_count"]) == (2, 2)
    assert [(each["node_id"], each["is_manager"], each["status"]) for each in detail["nodes"]] == [
        ("agx0", True, "online"), ("agx1", False, "online"),
    ]  # fmt: skip
    assert fleet.get(f"/api/clusters/{made['id']}/status") == detail


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"name": "vision", "node_ids": ["agx2"]}, 409, "already"),
        ({"name": "other", "node_ids": ["agx0"]}, 409, "is in cluster 'vision'"),
        ({"name": "other", "node_ids": ["nope"]}, 404, "no node 'nope'"),
        ({"name": "other", "node_ids": []}, 400, "node_ids"),
        ({"name": "other", "node_ids": ["agx2"], "cluster_type": "kubernetes"}, 400, "swarm"),
    ],
)
def test_a_cluster_that_cannot_be(fleet: FakeFleet, body: dict[str, Any], status: int, word: str) -> None:
    fleet.cluster()
    assert word in fleet.post("/api/clusters", body, status)["detail"]
    assert [each["name"] for each in fleet.get("/api/clusters")] == ["vision"]


def test_nodes_come_and_go(fleet: FakeFleet) -> None:
    fleet.cluster()
    assert fleet.post("/api/clusters/vision/nodes/agx2")["node_ids"] == ["agx0", "agx1", "agx2"]
    assert fleet.post("/api/clusters/vision/nodes/agx2")["status"] == "active"
    assert "manages" in fleet.delete("/api/clusters/vision/nodes/agx0", 409)["detail"]
    assert fleet.delete("/api/clusters/vision/nodes/agx2")["node_ids"] == ["agx0", "agx1"]
    assert "not in cluster" in fleet.delete("/api/clusters/vision/nodes/agx2", 409)["detail"]
    member = next(each for each in fleet.get("/api/swarm/nodes") if each["node_id"] == "agx2")
    assert (member["availability"], "cluster" in member["labels"]) == ("active", False)


def test_a_clusters_state_follows_reality(fleet: FakeFleet) -> None:
    fleet.cluster()
    fleet.post("/api/swarm/nodes/agx1/availability", {"availability": "drain"}, 200)
    [found] = fleet.get("/api/clusters")
    assert (found["status"], found["reason"]) == ("degraded", "agx1 takes no tasks (drain)")
    fleet.post("/api/swarm/nodes/agx1/availability", {"availability": "active"}, 200)
    next(each for each in fleet.world.members.values() if each["Description"]["Hostname"] == "agx1")["Status"]["State"] = "down"
    assert fleet.get("/api/clusters")[0]["reason"] == "agx1 is down in the swarm"
    fleet.delete("/api/clusters/vision/nodes/agx1")
    fleet.delete("/api/clusters/vision/nodes/agx0")
    assert fleet.get("/api/clusters")[0]["status"] == "empty"
    assert fleet.delete("/api/clusters/vision")["status"] == "removed"
    assert "no cluster" in fleet.get("/api/clusters/vision/status", 404)["detail"]


def test_cleanup_makes_nodes_leave(fleet: FakeFleet) -> None:
    fleet.cluster()
    fleet.cluster("kitchen", "agx2")
    assert "every manager" in fleet.delete("/api/clusters/vision", 409, cleanup_swarm=True)["detail"]
    fleet.delete("/api/clusters/kitchen", cleanup_swarm=True)
    assert fleet.dockers["agx2"].state == "inactive"
    assert fleet.get("/api/swarm/status")["nodes_count"] == 2
    fleet.delete("/api/clusters/vision", cleanup_swarm=True)
    assert {each.state for each in fleet.dockers.values()} == {"inactive"}
    assert fleet.get("/api/swarm/status")["is_manager"] is False


def test_a_node_whose_agent_is_a_container_of_the_swarm_does_not_leave(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1", "agx2")
    fleet.post("/api/swarm/nodes/agx1/labels", {"labels": {INFERENCE: "5d41402abc4b"}}, 200)
    said = fleet.delete("/api/clusters/vision", 409, cleanup_swarm=True)["detail"]
    assert said.startswith("The agent of node agx1 runs in a container of the swarm")
    assert "fleet vision install agx1" in said
    assert {each.state for each in fleet.dockers.values()} == {"active"}, "nobody has left"
    fleet.post("/api/swarm/nodes/agx1/labels", {"labels": {INFERENCE: ""}}, 200)
    fleet.delete("/api/clusters/vision", cleanup_swarm=True)
    assert {each.state for each in fleet.dockers.values()} == {"inactive"}


def test_a_node_that_is_gone_keeps_nobody_though_its_agent_was_a_container(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1", "agx2")
    fleet.post("/api/swarm/nodes/agx1/labels", {"labels": {INFERENCE: "5d41402abc4b"}}, 200)
    fleet.lost("agx1")
    fleet.delete("/api/clusters/vision", cleanup_swarm=True)
    assert fleet.get("/api/clusters") == []
    assert [fleet.dockers[each].state for each in ("agx0", "agx2")] == ["inactive", "inactive"]


def test_members_of_another_swarm_are_refused_unless_forced(fleet: FakeFleet) -> None:
    fleet.cluster()
    other = fleet.dockers["agx2"]
    other.state, other.node_id = "active", "elsewhere"
    assert "another swarm" in fleet.post("/api/clusters/vision/nodes/agx2", None, 409)["detail"]
    assert "agx2" not in fleet.get("/api/clusters")[0]["node_ids"]
    assert other.node_id == "elsewhere"
    assert fleet.post("/api/clusters/vision/nodes/agx2", force=True)["node_ids"] == ["agx0", "agx1", "agx2"]


def test_a_reflashed_nodes_twin_is_removed(fleet: FakeFleet) -> None:
    fleet.cluster()
    old = fleet.dockers["agx1"].node_id
    fleet.world.members[old]["Status"]["State"] = "down"
    fleet.dockers["agx1"].state, fleet.dockers["agx1"].node_id = "inactive", ""
    body = {"node_ip": "10.0.0.2", "credential_id": "shelf", "cluster": "vision"}
    joined = fleet.post("/api/swarm/join-remote", body)
    assert (joined["status"], joined["node_id"], joined["cluster"]) == ("success", "agx1", "vision")
    assert joined["message"] == "Node 10.0.0.2 joined swarm successfully"
    assert joined["swarm_node_id"] != old
    assert old not in fleet.world.members
    assert fleet.post("/api/swarm/join-remote", body)["swarm_node_id"] == joined["swarm_node_id"]


def test_join_remote_wants_one_way_in(fleet: FakeFleet) -> None:
    assert "credential_id is required" in fleet.post("/api/swarm/join-remote", {"node_ip": "10.0.0.2"}, 400)["detail"]
    assert fleet.post("/api/swarm/join-remote", {"node_ip": "10.0.0.2", "credential_id": "nope"}, 404)["detail"]
    fleet.post("/api/swarm/join-remote", {"node_ip": "10.0.0.2", "username": "nvidia", "password": "shelf"})
    kept = [each["name"] for each in fleet.get("/api/vault")]
    assert "nvidia @ 10.0.0.2" in kept
    [row] = fleet.get("/api/operations", kind="swarm_join")["operations"]
    assert "shelf" not in str(row)
    assert fleet.get("/api/swarm/status")["managers_count"] == 1, "the first to join forms the swarm"


def test_labels_roles_and_tokens(fleet: FakeFleet) -> None:
    fleet.cluster()
    labels = fleet.post("/api/swarm/nodes/agx1/labels", {"labels": {"rack": "a1", "nvidia": ""}}, 200)["labels"]
    assert (labels["rack"], "nvidia" in labels) == ("a1", False)
    assert "fleet.node" in fleet.post("/api/swarm/nodes/agx1/labels", {"labels": {"fleet.node": "x"}}, 409)["detail"]
    assert "no node 'nope'" in fleet.post("/api/swarm/nodes/nope/labels", {"labels": {}}, 404)["detail"]
    assert "only manager" in fleet.post("/api/swarm/nodes/agx0/role", {"role": "worker"}, 409)["detail"]
    assert fleet.post("/api/swarm/nodes/agx1/role", {"role": "manager"}, 200)["role"] == "manager"
    token = fleet.get("/api/swarm/join-token")
    assert token == {"token": "SWMTKN-1-worker-0", "role": "worker"}
    rotated = fleet.post("/api/swarm/join-token/rotate", None, 200, role="worker")["token"]
    assert rotated != token["token"]
    assert fleet.get("/api/swarm/join-token")["token"] == rotated


def test_another_manager_takes_over(fleet: FakeFleet) -> None:
    fleet.cluster()
    fleet.post("/api/swarm/nodes/agx1/role", {"role": "manager"}, 200)
    fleet.dead("agx0")
    assert fleet.get("/api/swarm/status")["is_manager"] is True
    assert fleet.post("/api/swarm/services", SERVICE)["running"] == 1


def test_without_quorum_reads_have_an_age_and_writes_are_refused(fleet: FakeFleet) -> None:
    fleet.cluster()
    fleet.post("/api/swarm/services", SERVICE)
    before = fleet.get("/api/swarm/services")
    fleet.get("/api/swarm/status")
    fleet.world.quorum = False
    answer = fleet.api.get("/api/swarm/services")
    assert answer.json() == before
    assert int(answer.headers["Age"]) >= 1
    status = fleet.get("/api/swarm/status")
    assert (status["is_manager"], status["nodes_count"]) == (False, 2)
    assert status["age_seconds"] > 0
    assert "managers" in fleet.post("/api/swarm/services/vision-web/scale", {"replicas": 2}, 503)["detail"]
    fleet.world.quorum = True
    assert fleet.post("/api/swarm/services/vision-web/scale", {"replicas": 2}, 200)["replicas"] == 2


def test_a_swarm_whose_managers_left_the_fleet_is_forgotten(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0")
    assert fleet.api.delete("/api/nodes/agx0").status_code == 204
    assert "no swarm yet" in fleet.get("/api/swarm/status")["reason"]
    assert fleet.post("/api/clusters", {"name": "kitchen", "node_ids": ["agx2"]})["status"] == "active"


def test_a_removed_manager_is_no_end(fleet: FakeFleet) -> None:
    fleet.cluster()
    fleet.dockers["agx0"].state = "inactive"
    assert fleet.get("/api/swarm/status")["is_manager"] is False
    assert "no swarm" in fleet.get("/api/swarm/status")["reason"]


def test_what_is_remembered_is_bounded(fleet: FakeFleet) -> None:
    fleet.cluster()
    managers = fleet.api.app.state.fleet.swarm.managers  # type: ignore[attr-defined]

    async def read_many() -> None:
        for number in range(1_500):
            await managers.read(f"answer {number}", lambda client: 0)

    fleet.api.portal.call(read_many)  # type: ignore[union-attr]
    assert len(managers._seen) == 1_000
    assert "answer 1499" in managers._seen


def test_a_wrong_password_takes_no_node_away(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0")
    body = {"node_ip": "10.0.0.2", "username": "nvidia", "password": "right"}
    fleet.post("/api/swarm/join-remote", body)
    before = fleet.get("/api/nodes/agx1")
    fleet.dead("agx1")
    fleet.post("/api/swarm/join-remote", {**body, "password": "wrong", "cluster": "kitchen"}, 503)
    after = fleet.get("/api/nodes/agx1")
    assert (after["credential_id"], after["cluster"]) == (before["credential_id"], before["cluster"])
    state = fleet.api.app.state.fleet  # type: ignore[attr-defined]
    assert fleet.api.portal.call(state.vault.open, before["credential_id"]).password == "right"  # type: ignore[union-attr]


def test_a_node_is_of_the_cluster_that_had_it_first(fleet: FakeFleet) -> None:
    state = fleet.api.app.state.fleet  # type: ignore[attr-defined]

    async def both() -> list[Any]:
        bodies = [ClusterBody(name=name, node_ids=["agx0"]) for name in ("vision", "kitchen")]
        rows = [await state.cluster_work.create(body, False, "test") for body in bodies]
        return [await state.operations.wait(row.id, 10) for row in rows]

    first, second = fleet.api.portal.call(both)  # type: ignore[union-attr]
    assert (first.state, second.state) == ("succeeded", "failed")
    assert "is in cluster 'vision'" in second.reason
    assert [(each["name"], each["node_ids"]) for each in fleet.get("/api/clusters")] == [("vision", ["agx0"])]


def test_a_node_takes_tasks_again_where_its_removal_is_cancelled(fleet: FakeFleet) -> None:
    fleet.cluster()
    fleet.post("/api/swarm/services", {**SERVICE, "replicas": 2})
    state = fleet.api.app.state.fleet  # type: ignore[attr-defined]
    row = fleet.api.portal.call(state.cluster_work.remove, "vision", "agx1", "test")  # type: ignore[union-attr]

    def availability() -> str:
        return next(str(each["availability"]) for each in fleet.get("/api/swarm/nodes") if each["node_id"] == "agx1")

    deadline = time.monotonic() + 10
    while availability() != "drain":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    fleet.post(f"/api/operations/{row.id}/cancel", None, 200)
    assert fleet.ended(row.id)["state"] == "cancelled"
    assert availability() == "active"
    assert fleet.get("/api/clusters")[0]["node_ids"] == ["agx0", "agx1"]


def test_a_retry_goes_on_where_the_control_plane_ended(fleet: FakeFleet) -> None:
    fleet.dead("agx1")
    fleet.post("/api/clusters", {"name": "vision", "node_ids": ["agx0", "agx1"]}, 503)
    assert fleet.get("/api/clusters") == []
    [row] = fleet.get("/api/operations", kind="cluster")["operations"]
    state = fleet.api.app.state.fleet  # type: ignore[attr-defined]
    left = fleet.api.portal.call(state.clusters.add, "vision", "agx0")  # type: ignore[union-attr]
    fleet.engines.engines["agx1"].error = None
    again = fleet.ended(fleet.post(f"/api/operations/{row['id']}/retry")["id"])
    assert again["state"] == "succeeded", again["reason"]
    [found] = fleet.get("/api/clusters")
    assert (found["id"], found["node_ids"]) == (left.id, ["agx0", "agx1"])
