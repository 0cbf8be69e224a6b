"""Onboarding, the install queue, operations and nodes over REST, with machines and plays that a test describes."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api import collection
from fleet_api.adapters.ansible.fake import FakePlays
from fleet_api.adapters.ansible.play import Outcome
from fleet_api.adapters.ssh.errors import BecomeRefused, HostKeyChanged, LoginRefused, Unreachable
from fleet_api.app import create_app
from fleet_api.nodes import onboarding
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent
from tests.support.client import client_of
from tests.support.machines import FakeSsh, Machine

FIRST, SECOND, THIRD = "10.0.0.11", "10.0.0.12", "10.0.0.13"


@dataclass
class Bench:
    """A control plane with three machines around it, whose agents call as soon as a play has run on them."""

    api: TestClient
    plays: FakePlays
    ssh: FakeSsh
    credential: str = ""

    def join(self, ip: str = FIRST, **more: Any) -> str:
        answer = self.api.post("/api/network/join", json={"ip": ip, "credential_id": self.credential, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["operation_id"]

    def operation(self, operation_id: str) -> dict[str, Any]:
        return self.api.get(f"/api/operations/{operation_id}").json()

    def ended(self, operation_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while (row := self.operation(operation_id))["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, row
            time.sleep(0.02)
        return row

    def node(self, node_id: str) -> dict[str, Any]:
        return self.api.get(f"/api/nodes/{node_id}").json()

    def running(self, operation_id: str) -> None:
        deadline = time.monotonic() + 5
        while operation_id not in self.plays.running:
            assert time.monotonic() < deadline, self.operation(operation_id)
            time.sleep(0.01)


class Enrolling(FakePlays):
    """A play after which the node's agent is there, as the real one leaves it."""

    api: TestClient

    async def run(self, operation_id: str, play: Any, checking: bool, told: Any) -> Outcome:
        outcome = await super().run(operation_id, play, checking, told)
        for node_id in play.hosts:
            if outcome.hosts.get(node_id) == "ok" and not checking and play.playbook == "onboard":
                fleet = self.api.app.state.fleet
                node = fleet.nodes.get(node_id)
                fleet.nodes.get(node_id).row.credential_hash = node.row.credential_hash or f"hash of {node_id}"
                await fleet.nodes.arrived(node, f"incarnation of {node_id}")
        return outcome


@pytest.fixture
def bench(settings: Settings, _empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    settings = settings.model_copy(update={"advertise_url": "http://10.0.0.1:8765"})
    settings.home.mkdir()
    shutil.copy(_empty_database, settings.database)
    machines = {ip: Machine(f"agx{n}", f"machine {n}") for n, ip in enumerate((FIRST, SECOND, THIRD))}
    plays, ssh = Enrolling(), FakeSsh(**machines)
    monkeypatch.setattr(onboarding, "AGENT_SECONDS", 0.5)
    with client_of(create_app(settings, None, plays, ssh)) as api:
        plays.api = api
        made = Bench(api, plays, ssh)
        body = {"name": "jetsons", "username": "nvidia", "password": "correct horse"}
        made.credential = api.post("/api/vault", json=body).json()["id"]
        yield made


def test_a_machine_becomes_a_node(bench: Bench) -> None:
    bench.plays.outcome = Outcome(
        0, {"agx0": "ok"}, results={"agx0": {"fleet_facts": {"jetpack_version": "5.1.2", "l4t_version": "35.4.1", "cuda_version": "11.4"}}}
    )
    row = bench.ended(bench.join(cluster="vision", labels={"rack": "a1"}))
    assert (row["state"], row["kind"], row["node_ids"], row["progress"]) == ("succeeded", "onboard", ["agx0"], 100.0)
    node = bench.node("agx0")
    assert (node["status"], node["ip"], node["cluster"], node["labels"]) == ("online", FIRST, "vision", {"rack": "a1"})
    assert node["credential_id"] == bench.credential
    [play] = bench.plays.seen
    assert play.hosts["agx0"]["ansible_host"] == FIRST
    assert play.variables["fleet_control_plane_url"] == "http://10.0.0.1:8765"
    assert play.hosts["agx0"]["fleet_enrolment_token"].split(".")[1] == "agx0"
    assert "correct horse" in play.secrets
    jetpack = {"jetpack_version": "5.1.2", "l4t_version": "35.4.1", "cuda_version": "11.4", "cudnn_version": None}
    assert bench.api.get("/api/nodes/agx0/jetpack").json() == jetpack
    assert bench.api.get("/api/nodes/jetpack").json() == {"agx0": jetpack}


def test_twice_is_one_node_and_at_once_is_refused(bench: Bench) -> None:
    bench.plays.gate = asyncio.Event()
    first = bench.join()
    again = bench.api.post("/api/network/join", json={"ip": FIRST, "credential_id": "jetsons"})
    assert (again.status_code, first in again.json()["detail"]) == (409, True)
    bench.running(first)
    bench.api.portal.call(bench.plays.gate.set)
    assert bench.ended(first)["state"] == "succeeded"
    assert bench.ended(bench.join())["node_ids"] == ["agx0"]
    assert [node["id"] for node in bench.api.get("/api/nodes").json()["nodes"]] == ["agx0"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"error": LoginRefused("The machine refuses the credential; change it.")}, "refuses the credential"),
        ({"error": Unreachable("No connection to 10.0.0.11 within 5 s.")}, "No connection"),
        ({"sudo_error": BecomeRefused("sudo does not allow it on 10.0.0.11.")}, "sudo does not allow it"),
        ({"l4t": "# R32 (release), REVISION: 7.1", "python": "3.6"}, "JetPack 4"),
        ({"python": "3.7"}, "has Python 3.7; 3.8 or later"),
        ({"python": ""}, "has no Python 3"),
        ({"systemd": ""}, "does not run systemd"),
    ],
)
def test_what_is_wrong_before_the_play_is_a_sentence_and_a_retry_succeeds(bench: Bench, change: dict[str, Any], says: str) -> None:
    machine = bench.ssh.machines[FIRST]
    before = {name: getattr(machine, name) for name in change}
    for name, value in change.items():
        setattr(machine, name, value)
    row = bench.ended(bench.join())
    assert row["state"] == "failed"
    assert says in row["reason"]
    assert bench.plays.seen == []
    for name, value in before.items():
        setattr(machine, name, value)
    again = bench.api.post(f"/api/install-queue/queue/{row['id']}/retry")
    assert again.status_code == 201
    assert bench.ended(again.json()["operation_id"])["state"] == "succeeded"


def test_a_play_that_fails_leaves_a_discovered_node_with_its_reason(bench: Bench) -> None:
    bench.plays.outcome = Outcome(2, {"agx0": "failed"}, reasons={"agx0": "The node's disk is full; free some space on it and retry."})
    row = bench.ended(bench.join())
    assert (row["state"], "disk is full" in row["reason"]) == ("failed", True)
    assert (bench.node("agx0")["status"], "disk is full" in bench.node("agx0")["reason"]) == ("discovered", True)
    bench.plays.outcome = None
    bench.ended(bench.api.post(f"/api/operations/{row['id']}/retry").json()["id"])
    assert (bench.node("agx0")["status"], bench.node("agx0")["reason"]) == ("online", None)
    bench.plays.outcome = Outcome(2, {"agx0": "failed"}, reasons={"agx0": "Something failed."})
    bench.ended(bench.join())
    assert (bench.node("agx0")["status"], bench.node("agx0")["reason"]) == ("degraded", "Something failed.")


def test_an_agent_that_never_calls_is_named(bench: Bench) -> None:
    bench.plays.__class__ = FakePlays
    row = bench.ended(bench.join())
    assert row["state"] == "failed"
    assert "did not call http://10.0.0.1:8765" in row["reason"]


def test_a_changed_host_key_stops_everything(bench: Bench) -> None:
    bench.ended(bench.join())
    bench.ssh.machines[FIRST].error = HostKeyChanged("host_key_changed: another key than the pinned one.", "SHA256:a", "SHA256:b")
    row = bench.ended(bench.join())
    assert "host_key_changed" in row["reason"]
    assert bench.node("agx0")["status"] == "host_key_changed"
    bench.ssh.machines[FIRST].error = None
    assert bench.ended(bench.join())["state"] == "succeeded"
    assert bench.node("agx0")["status"] == "online"


def test_a_board_that_moved_is_known_again_and_another_board_is_noticed(bench: Bench) -> None:
    bench.plays.outcome = Outcome(0, {"agx0": "ok"}, results={"agx0": {"fleet_facts": {"jetpack_version": "5.1.2"}}})
    bench.ended(bench.join())
    bench.ssh.machines[SECOND] = Machine("agx0", "machine 0")
    bench.ssh.machines[FIRST].error = Unreachable("No connection to 10.0.0.11 within 5 s.")
    bench.plays.outcome = None
    assert bench.ended(bench.join(SECOND))["node_ids"] == ["agx0"]
    assert bench.node("agx0")["ip"] == SECOND
    bench.ssh.machines[SECOND] = Machine("agx0", "reflashed")
    operation = bench.join(SECOND)
    assert bench.ended(operation)["node_ids"] == ["agx0"]
    assert "jetpack_version" not in bench.node("agx0")["facts"]
    told = [event["text"] for event in events(bench, operation)]
    assert any("Another machine than before answers as node agx0" in text for text in told)


def events(bench: Bench, operation_id: str, after: int = 0) -> list[dict[str, Any]]:
    text = bench.api.get(f"/api/operations/{operation_id}/events", params={"after": after}).text
    found = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    return [each for each in found if "seq" in each]


def test_events_are_streamed_from_where_one_was(bench: Bench) -> None:
    bench.plays.events = [{"type": "task", "text": f"task {n}", "task": f"task {n}"} for n in range(5)]
    operation = bench.join()
    bench.ended(operation)
    every = events(bench, operation)
    assert [each["seq"] for each in every] == list(range(1, len(every) + 1))
    assert [each["seq"] for each in events(bench, operation, after=3)] == [each["seq"] for each in every[3:]]
    resumed = bench.api.get(f"/api/operations/{operation}/events", headers={"Last-Event-ID": str(len(every))}).text
    assert resumed.count("data:") == 1
    assert "event: ended" in resumed
    assert "correct horse" not in json.dumps(every)


def test_cancel_and_the_install_queue(bench: Bench) -> None:
    bench.plays.gate = asyncio.Event()
    operation = bench.join()
    bench.running(operation)
    [entry] = bench.api.get("/api/install-queue/queue").json()["jobs"]
    assert (entry["job_id"], entry["host"], entry["status"], entry["node_id"]) == (operation, FIRST, "running", "agx0")
    assert bench.api.delete("/api/install-queue/queue").json() == {"cleared": 0, "cancelled": 0, "running": 1}
    started = time.monotonic()
    assert bench.api.post(f"/api/operations/{operation}/cancel").status_code == 200
    assert bench.ended(operation)["state"] == "cancelled"
    assert time.monotonic() - started < 1
    assert any("FLEET_OPERATION" in command for command in bench.ssh.machines[FIRST].ran[-1:])
    assert bench.api.post(f"/api/operations/{operation}/cancel").status_code == 409
    bench.api.portal.call(bench.plays.gate.set)
    retried = bench.api.post("/api/install-queue/queue/retry-failed").json()
    assert retried["retried"] == 1
    assert bench.ended(retried["jobs"][0]["job_id"])["state"] == "succeeded"
    assert bench.api.post("/api/install-queue/queue/retry-failed").json()["retried"] == 0
    assert bench.api.delete("/api/install-queue/queue").json()["cleared"] == 2
    assert bench.api.get("/api/install-queue/queue").json() == {"jobs": []}
    assert bench.api.get("/api/operations").json()["total"] == 2


def test_force_cancels_what_is_at_work(bench: Bench) -> None:
    bench.plays.gate = asyncio.Event()
    operations = [bench.join(ip) for ip in (FIRST, SECOND)]
    bench.running(operations[0])
    assert bench.api.delete("/api/install-queue/queue?force=true").json()["cancelled"] == 2
    assert {bench.ended(each)["state"] for each in operations} == {"cancelled"}


def test_nodes_are_registered_changed_and_forgotten(bench: Bench) -> None:
    made = bench.api.post("/api/nodes", json={"hostname": "Orin 7.lan", "ip": THIRD, "credential_id": "jetsons", "labels": {"role": "gpu"}})
    assert made.status_code == 201, made.text
    assert (made.json()["id"], made.json()["status"], made.json()["labels"]) == ("orin-7", "discovered", {"role": "gpu"})
    taken = bench.api.post("/api/nodes", json={"ip": THIRD})
    assert (taken.status_code, "is node 'orin-7' already" in taken.json()["detail"]) == (409, True)
    changed = bench.api.patch("/api/nodes/orin-7", json={"cluster": "vision", "labels": {"role": "cpu"}})
    assert (changed.json()["cluster"], changed.json()["labels"], changed.json()["ip"]) == ("vision", {"role": "cpu"}, THIRD)
    assert bench.api.patch("/api/nodes/orin-7", json={"cluster": ""}).json()["cluster"] is None
    for body in (
        {"ip": "not an address"},
        {"ip": THIRD, "labels": {"a b": "c"}},
        {"ip": "10.0.0.9", "id": "UPPER"},
        {"ip": "10.0.0.9", "ssh_port": 0},
    ):
        assert bench.api.post("/api/nodes", json=body).status_code == 400
    assert bench.api.post("/api/nodes", json={"ip": "10.0.0.9", "credential_id": "unknown"}).status_code == 404
    assert bench.api.delete("/api/nodes/orin-7").status_code == 204


def test_plays_on_nodes(bench: Bench) -> None:
    for ip in (FIRST, SECOND):
        bench.ended(bench.join(ip, cluster="vision"))
    bench.plays.outcome = Outcome(2, {"agx0": "ok", "agx1": "failed"}, reasons={"agx1": "Docker does not run."})
    row = bench.api.post("/api/operations", json={"kind": "doctor", "cluster": "vision"}).json()
    ended = bench.ended(row["id"])
    assert (ended["state"], ended["reason"]) == ("failed", "agx1: Docker does not run.")
    assert [bench.node(each)["status"] for each in ("agx0", "agx1")] == ["online", "degraded"]
    bench.plays.outcome = None
    again = bench.api.post(f"/api/operations/{row['id']}/retry").json()
    assert bench.ended(again["id"])["state"] == "succeeded"
    assert list(bench.plays.seen[-1].hosts) == ["agx1"]
    assert bench.node("agx1")["status"] == "online"
    for kind, title in (("gpu_inference", "Give an engine to agx0"), ("gpu_inference_remove", "Take the engine from agx0")):
        row = bench.api.post("/api/operations", json={"kind": kind, "node_ids": ["agx0"]}).json()
        assert (bench.ended(row["id"])["state"], row["title"], bench.plays.seen[-1].playbook) == ("succeeded", title, kind)
    retiring = bench.api.post("/api/nodes/agx0/retire").json()
    assert bench.ended(retiring["operation_id"])["state"] == "succeeded"
    assert bench.node("agx0")["status"] == "retired"
    for body, status in (
        ({"kind": "nothing", "node_ids": ["agx0"]}, 400), ({"kind": "doctor"}, 400), ({"kind": "doctor", "node_ids": ["x"]}, 404),
        ({"kind": "doctor", "cluster": "none"}, 404), ({"kind": "doctor", "node_ids": ["agx0"], "cluster": "vision"}, 400),
    ):  # fmt: skip
        assert bench.api.post("/api/operations", json=body).status_code == status, body


def test_a_plan_changes_nothing(bench: Bench) -> None:
    bench.ended(bench.join())
    before = bench.node("agx0")
    row = bench.api.post("/api/operations?check=true", json={"kind": "retire", "node_ids": ["agx0"]}).json()
    assert (row["check"], bench.ended(row["id"])["state"]) == (True, "succeeded")
    after = bench.node("agx0")
    assert (after["status"], after["facts"]) == ("online", before["facts"])


def test_a_node_that_enrolled_by_itself_has_no_credential(bench: Bench) -> None:
    FakeAgent.enrol(bench.api, "lonely").lease()
    answer = bench.api.post("/api/operations", json={"kind": "doctor", "node_ids": ["lonely"]})
    assert (answer.status_code, "has no credential" in answer.json()["detail"]) == (409, True)


def test_a_loopback_control_plane_says_so(api: TestClient) -> None:
    made = api.post("/api/vault", json={"name": "j", "username": "nvidia", "password": "secret"}).json()
    answer = api.post("/api/network/join", json={"ip": FIRST, "credential_id": made["id"]})
    assert (answer.status_code, "FLEET_HOST" in answer.json()["detail"]) == (503, True)


def test_the_schedule(bench: Bench) -> None:
    jobs = {each["name"]: each for each in bench.api.get("/api/schedule").json()}
    assert set(jobs) == {"backup", "doctor", "model_scan", "outputs_bin", "outputs_cleanup", "outputs_sync", "retention"}
    assert jobs["doctor"]["next_run"].endswith("T04:00:00.000Z")
    ran = bench.api.post("/api/schedule/doctor/run").json()
    assert (ran["outcome"], ran["last_run"] is not None) == ("There is no node to examine.", True)
    bench.ended(bench.join())
    outcome = bench.api.post("/api/schedule/doctor/run").json()["outcome"]
    assert bench.ended(outcome.split()[-1])["caller"] == "schedule"
    assert bench.api.post("/api/schedule/nothing/run").status_code == 404


def test_the_steps_are_the_playbooks_roles_in_its_order() -> None:
    text = (collection.root() / "playbooks" / "onboard.yml").read_text()
    assert tuple(re.findall(r"name: fleet\.commander\.(\w+)\n", text)) == onboarding.STEPS
