"""Agents in containers by REST: the node that manages the swarm is there to be asked, and nothing else is done on it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_api.adapters.ansible.inventory_socket import inventory_of
from fleet_api.adapters.ssh.errors import Unreachable
from fleet_api.nodes import sweep
from fleet_api.services.swarm.labels import INFERENCE
from fleet_api.settings import Settings
from tests.support.swarm import FakeFleet, fake_fleet


@pytest.fixture
def fleet(settings: Settings, _empty_database: Path) -> Iterator[FakeFleet]:
    settings.home.mkdir()
    shutil.copy(_empty_database, settings.database)
    with fake_fleet(settings, 4) as made:
        yield made


def asked(fleet: FakeFleet, *nodes: str, kind: str = "gpu_inference", status: int = 201, **more: Any) -> Any:
    return fleet.post("/api/operations", {"kind": kind, "node_ids": list(nodes), **more}, status)


def in_container(fleet: FakeFleet, node: str) -> None:
    fleet.post(f"/api/swarm/nodes/{node}/labels", {"labels": {INFERENCE: "5d41402abc4b"}}, 200)


def test_the_manager_is_there_to_be_asked_and_the_play_is_not_for_it(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1", "agx2")
    row = fleet.ended(asked(fleet, "agx1", "agx2", mode="container")["id"])
    assert (row["state"], row["node_ids"], row["request"]) == (
        "succeeded", ["agx1", "agx2"], {"node_ids": ["agx1", "agx2"], "mode": "container", "swarm_manager": "agx0"},
    )  # fmt: skip
    assert set(row["result"]["hosts"]) == {"agx1", "agx2"}
    [play] = fleet.plays.seen
    found = inventory_of(play)
    assert (found["groups"]["nodes"], found["groups"]["swarm_managers"]) == (["agx1", "agx2"], ["agx0"])
    assert set(found["hosts"]) == {"agx0", "agx1", "agx2"}
    assert found["variables"]["gpu_inference_mode"] == "container"
    manager = found["hosts"]["agx0"]
    assert (manager["ansible_host"], manager["ansible_user"], manager["ansible_password"]) == ("10.0.0.1", "nvidia", "shelf")
    assert manager["fleet_operation"] == row["id"], "what is not in the group nodes has every variable itself"
    assert "shelf" in play.secrets
    assert "shelf" not in repr(play)


def test_a_manager_that_is_one_of_the_nodes_is_in_both_groups(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1")
    fleet.ended(asked(fleet, "agx0", "agx1", mode="container")["id"])
    found = inventory_of(fleet.plays.seen[-1])
    assert (found["groups"]["nodes"], found["groups"]["swarm_managers"]) == (["agx0", "agx1"], ["agx0"])
    assert "fleet_operation" not in found["hosts"]["agx0"]


def test_the_way_back_asks_it_too_and_others_do_not(fleet: FakeFleet) -> None:
    assert "swarm_manager" not in asked(fleet, "agx1")["request"], "there is no swarm"
    fleet.cluster("vision", "agx0", "agx1", "agx2")
    in_container(fleet, "agx1")
    for kind, node, manager in (
        ("gpu_inference", "agx1", "agx0"), ("gpu_inference_remove", "agx1", "agx0"), ("gpu_inference", "agx2", None),
        ("gpu_inference", "agx3", None), ("gpu_inference_remove", "agx2", None), ("doctor", "agx1", None), ("site", "agx1", None),
    ):  # fmt: skip
        row = fleet.ended(asked(fleet, node, kind=kind)["id"])
        assert (row["state"], row["request"].get("swarm_manager")) == ("succeeded", manager), (kind, node)
        assert fleet.plays.seen[-1].groups.get("swarm_managers") == ([manager] if manager else None)
        assert "gpu_inference_mode" not in fleet.plays.seen[-1].variables


def test_what_is_in_the_way_of_a_container_is_said_before_anything_begins(fleet: FakeFleet) -> None:
    assert "There is no swarm yet" in asked(fleet, "agx1", status=409, mode="container")["detail"]
    assert "alone" in asked(fleet, "agx1", kind="doctor", status=400, mode="native")["detail"]
    assert "mode" in asked(fleet, "agx1", status=400, mode="pod")["detail"]
    fleet.cluster("vision", "agx0", "agx1")
    assert asked(fleet, "agx1", "agx3", status=409, mode="container")["detail"].startswith("Node agx3 is not in the swarm")
    state = fleet.api.app.state.fleet  # type: ignore[attr-defined]
    state.nodes.get("agx0").row.credential_id = None
    in_container(fleet, "agx1")
    for kind, more in (("gpu_inference", {"mode": "container"}), ("gpu_inference", {}), ("gpu_inference_remove", {})):
        said = asked(fleet, "agx1", kind=kind, status=409, **more)["detail"]
        assert said.startswith("No node of the fleet that has an address and a credential manages the swarm")
    assert fleet.plays.seen == []


def test_a_manager_that_does_not_answer_is_named_and_a_retry_asks_another(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1", "agx2")
    fleet.ssh.machines["10.0.0.1"].error = Unreachable("10.0.0.1 port 22 does not answer.")
    row = fleet.ended(asked(fleet, "agx1", mode="container")["id"])
    assert row["reason"] == "agx0, which manages the swarm, is to be asked, and cannot be: 10.0.0.1 port 22 does not answer."
    assert fleet.plays.seen == []
    fleet.post("/api/swarm/nodes/agx2/role", {"role": "manager"}, 200)
    fleet.dead("agx0")
    again = fleet.ended(fleet.post(f"/api/operations/{row['id']}/retry")["id"])
    assert (again["state"], again["request"]["swarm_manager"], again["request"]["mode"]) == ("succeeded", "agx2", "container")


def test_a_manager_that_the_swarm_does_not_reach_is_not_asked(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx2", "agx0", "agx1", "agx3")
    for node in ("agx0", "agx1"):
        fleet.post(f"/api/swarm/nodes/{node}/role", {"role": "manager"}, 200)
    fleet.api.app.state.fleet.nodes.get("agx2").row.credential_id = None  # type: ignore[attr-defined]
    fleet.lost("agx0")
    row = fleet.ended(asked(fleet, "agx3", mode="container")["id"])
    assert (row["state"], row["request"]["swarm_manager"]) == ("succeeded", "agx1"), "agx2, which answers, cannot be signed in to"
    fleet.lost("agx1")
    assert asked(fleet, "agx3", status=409, mode="container")["detail"].startswith("No node of the fleet that has")


def test_a_retry_takes_another_manager_though_the_swarm_reaches_the_one_of_before(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1", "agx2")
    fleet.post("/api/swarm/nodes/agx2/role", {"role": "manager"}, 200)
    fleet.ssh.machines["10.0.0.1"].error = Unreachable("10.0.0.1 port 22 does not answer.")
    row = fleet.ended(asked(fleet, "agx1", mode="container")["id"])
    assert (row["state"], row["request"]["swarm_manager"]) == ("failed", "agx0")
    row = fleet.ended(fleet.post(f"/api/operations/{row['id']}/retry")["id"])
    assert (row["state"], row["request"]["swarm_manager"]) == ("succeeded", "agx2")


def test_a_move_that_was_cut_off_is_known_by_the_nodes_own_note(fleet: FakeFleet) -> None:
    """The label is gone already, or not there yet, and the role goes by the note."""
    fleet.cluster("vision", "agx0", "agx1", "agx2")
    fleet.ssh.machines["10.0.0.2"].contained = True
    for kind in ("gpu_inference", "gpu_inference_remove"):
        row = fleet.ended(asked(fleet, "agx1", "agx2", kind=kind)["id"])
        assert (row["state"], set(row["result"]["hosts"])) == ("succeeded", {"agx1", "agx2"})
        found = inventory_of(fleet.plays.seen[-1])
        assert (found["groups"]["nodes"], found["groups"]["swarm_managers"]) == (["agx1", "agx2"], ["agx0"])
    fleet.ended(asked(fleet, "agx1", kind="doctor")["id"])
    assert "swarm_managers" not in fleet.plays.seen[-1].groups
    state = fleet.api.app.state.fleet  # type: ignore[attr-defined]
    state.nodes.get("agx0").row.credential_id = None
    fleet.ended(asked(fleet, "agx1")["id"])
    assert "swarm_managers" not in fleet.plays.seen[-1].groups, "the role says what it lacks, where it lacks it"


def test_a_manager_that_is_found_to_be_wanted_is_held_too_and_a_retry_waits_for_it(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1")
    fleet.ssh.machines["10.0.0.2"].contained = True
    fleet.plays.gate = asyncio.Event()
    first = asked(fleet, "agx0", kind="doctor")["id"]
    until(lambda: first in fleet.plays.running)
    row = fleet.ended(asked(fleet, "agx1")["id"])
    assert row["reason"] == (
        f"agx0, which manages the swarm and is to be asked, is held by operation {first}; wait for its end, or cancel it, and try again."
    )
    again = fleet.post(f"/api/operations/{row['id']}/retry")
    assert (again["state"], again["request"]["swarm_manager"]) == ("queued", "agx0")
    third = asked(fleet, "agx1", kind="doctor")["id"]
    fleet.api.portal.call(fleet.plays.gate.set)  # type: ignore[union-attr]
    assert {fleet.ended(each)["state"] for each in (first, again["id"], third)} == {"succeeded"}
    fleet.plays.gate = asyncio.Event()
    fourth = asked(fleet, "agx1")["id"]
    until(lambda: fourth in fleet.plays.running)
    assert "is held by operation" in fleet.api.delete("/api/nodes/agx0").json()["detail"]
    assert fleet.get(f"/api/operations/{asked(fleet, 'agx0', kind='doctor')['id']}")["state"] == "queued"
    fleet.api.portal.call(fleet.plays.gate.set)  # type: ignore[union-attr]
    assert fleet.ended(fourth)["state"] == "succeeded"


def test_two_that_ask_different_managers_wait_for_each_other(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1", "agx2", "agx3")
    fleet.post("/api/swarm/nodes/agx3/role", {"role": "manager"}, 200)
    fleet.plays.gate = asyncio.Event()
    first = asked(fleet, "agx1", mode="container")
    until(lambda: first["id"] in fleet.plays.running)
    fleet.lost("agx0")
    second, other = asked(fleet, "agx2", mode="container"), asked(fleet, "agx3", kind="doctor")["id"]
    assert (first["request"]["swarm_manager"], second["request"]["swarm_manager"]) == ("agx0", "agx3")
    until(lambda: other in fleet.plays.running)
    assert fleet.get(f"/api/operations/{second['id']}")["state"] == "queued"
    fleet.api.portal.call(fleet.plays.gate.set)  # type: ignore[union-attr]
    assert [fleet.ended(each)["state"] for each in (first["id"], other, second["id"])] == ["succeeded"] * 3


def test_of_twins_the_one_that_is_there_counts(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1")
    old = fleet.world.members[fleet.dockers["agx1"].node_id]
    fleet.world.members["old"] = {**old, "ID": "old", "Status": {**old["Status"], "State": "down"}}
    assert asked(fleet, "agx1", mode="container")["request"]["swarm_manager"] == "agx0"


def test_the_manager_is_held_meanwhile_and_swept_when_it_is_cut_off(fleet: FakeFleet) -> None:
    fleet.cluster("vision", "agx0", "agx1")
    fleet.plays.gate = asyncio.Event()
    first = asked(fleet, "agx1", mode="container")["id"]
    until(lambda: first in fleet.plays.running)
    second = asked(fleet, "agx0", kind="doctor")["id"]
    assert "is held by operation" in fleet.api.delete("/api/nodes/agx0").json()["detail"]
    assert fleet.get(f"/api/operations/{second}")["state"] == "queued"
    ran = len(fleet.ssh.machines["10.0.0.1"].ran)
    fleet.post(f"/api/operations/{first}/cancel", None, 200)
    assert fleet.ended(first)["state"] == "cancelled"
    assert any(sweep.SCRIPT.strip()[:20] in each and each.endswith(" -") for each in fleet.ssh.machines["10.0.0.1"].ran[ran:])
    until(lambda: second in fleet.plays.running)
    fleet.api.portal.call(fleet.plays.gate.set)  # type: ignore[union-attr]
    assert fleet.ended(second)["state"] == "succeeded"


def until(reached: Any) -> None:
    deadline = time.monotonic() + 5
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)
