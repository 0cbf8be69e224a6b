"""From bare machines to managed nodes, by REST: scan, one credential, auto-join; then once more, a fourth one, and back again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing, ok
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

OWN_FILE = "/etc/systemd/journald.conf.d/90-mine.conf"


@dataclass
class Farm:
    """A lab and its control plane, from one test of this file to the next."""

    manager: Manager
    nodes: list[Node]
    credential: str = ""
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def named(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


@pytest.fixture(scope="module")
def farm(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    nodes = make_lab("managed", 3)
    for node in nodes:  # one password for all, as on a shelf of boards
        node.set_password(PASSWORD)
    with managing(tmp_path_factory.mktemp("manager") / "home", gateway(nodes[0])) as manager:
        yield Farm(manager, nodes)


PASSWORD = 'l\'äb {{ 1 + 1 }} "quoted"'


def test_three_machines_become_nodes_with_one_credential(farm: Farm) -> None:
    for node in farm.nodes:  # what was there before
        node.shell(f"mkdir -p $(dirname {OWN_FILE}) /home/nvidia/.ssh; echo '# mine' > {OWN_FILE}")
        node.shell("echo 'ssh-ed25519 AAAA mine' > /home/nvidia/.ssh/authorized_keys; chown -R nvidia: /home/nvidia/.ssh")
        farm.found[node.name] = snapshot(node)
    subnet = f"{farm.nodes[0].ip.rsplit('.', 1)[0]}.0/24"
    with farm.manager.client() as api:
        devices = {each["ip"]: each for each in ok(api.get("/api/network/scan", params={"subnet": subnet}))["devices"]}
        assert {node.ip for node in farm.nodes} <= set(devices)
        assert all(22 in devices[node.ip]["ports"] for node in farm.nodes)
        body = {"name": "shelf", "username": "nvidia", "password": PASSWORD}
        farm.credential = ok(api.post("/api/vault", json=body))["id"]
        started = ok(api.post("/api/network/auto-join-all", json={"credential_id": farm.credential, "cluster": "vision"}))
    row = farm.manager.succeeded(started["operation_id"])
    assert sorted(row["node_ids"]) == sorted(node.name for node in farm.nodes)
    told = [each for part in row["result"]["operations"].values() for each in farm.manager.events(part) if each["type"] == "progress"]
    assert {each["data"]["what"] for each in told} == {"packages"}
    assert len({each["data"]["percent"] for each in told}) > 3, "progress within a task"
    known = farm.manager.nodes()
    for node in farm.nodes:
        assert (known[node.name]["status"], known[node.name]["ip"], known[node.name]["cluster"]) == ("online", node.ip, "vision")
        assert known[node.name]["facts"]["is_jetson"] is False
        assert node.run("systemctl", "is-active", "docker", "fleet-agent", check=False).split() == ["active", "active"]


def test_their_metrics_are_live(farm: Farm) -> None:
    headers = {"Authorization": f"Bearer {farm.manager.key}"}
    address = farm.manager.url.replace("https", "wss") + "/ws/metrics"
    with connect(address, ssl=farm.manager.trusted(), additional_headers=headers, proxy=None) as socket:
        seen = [json.loads(socket.recv(timeout=5)) for _ in range(2)]
    for node in farm.nodes:
        assert seen[1]["nodes"][node.name]["status"] == "online"
        assert 0 < seen[1]["nodes"][node.name]["memory"] < 100
        assert 0 < seen[1]["nodes"][node.name]["disk"] < 100
    assert seen[0]["timestamp"] != seen[1]["timestamp"]


def test_a_second_run_changes_nothing(farm: Farm) -> None:
    operations = [farm.manager.join(node, farm.credential) for node in farm.nodes]
    for operation in operations:
        row = farm.manager.succeeded(operation)
        [stats] = row["result"]["stats"].values()
        changed = [(each["task"], each["data"].get("diff")) for each in farm.manager.events(operation) if each["type"] == "changed"]
        assert (stats["changed"], stats["failures"]) == (0, 0), changed


def test_a_fourth_node_touches_the_others_not_at_all(farm: Farm, make_lab: MakeLab) -> None:
    def logins(node: Node) -> str:
        return node.shell("journalctl -u ssh -o cat --no-pager | grep -c Accepted")

    farm.nodes = make_lab("managed", 4)
    fourth = farm.nodes[3]
    fourth.set_password(PASSWORD)
    others = farm.nodes[:3]
    before = {node.name: (snapshot(node), logins(node)) for node in others}
    with farm.manager.client() as api:
        assert ok(api.get("/api/network/scan", params={"subnet": f"{fourth.ip.rsplit('.', 1)[0]}.0/24", "refresh": True}))
        started = ok(api.post("/api/network/auto-join-all", json={"credential_id": farm.credential}))
    row = farm.manager.succeeded(started["operation_id"])
    assert row["node_ids"] == [fourth.name]
    for node in others:
        changed = differences(before[node.name][0], snapshot(node))
        assert [line for line in changed if "/var/lib/fleet-agent" not in line] == []
        assert logins(node) == before[node.name][1]


def test_a_silent_node_is_offline_and_back(farm: Farm) -> None:
    node = farm.nodes[2]
    node.run("systemctl", "kill", "-s", "STOP", "fleet-agent")
    try:
        deadline = time.monotonic() + 20
        while farm.manager.nodes()[node.name]["status"] != "offline":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        node.run("systemctl", "kill", "-s", "CONT", "fleet-agent")
    deadline = time.monotonic() + 20
    while farm.manager.nodes()[node.name]["status"] != "online":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_plan_of_retiring_changes_nothing(farm: Farm) -> None:
    node = farm.nodes[0]
    before = snapshot(node)
    with farm.manager.client() as api:
        operation = ok(api.post(f"/api/nodes/{node.name}/retire", params={"check": True}))["operation_id"]
    farm.manager.succeeded(operation)
    assert [line for line in differences(before, snapshot(node)) if "/var/lib/fleet-agent" not in line] == []
    assert any(each["type"] == "changed" for each in farm.manager.events(operation))


def test_a_retired_node_is_as_it_was_found(farm: Farm) -> None:
    out = farm.manager.fleet("retire", *(node.name for node in farm.nodes[:2]))
    assert "succeeded" in out
    known = farm.manager.nodes()
    for node in farm.nodes[:2]:
        assert differences(farm.found[node.name], snapshot(node)) == []
        assert known[node.name]["status"] == "retired"
        assert node.shell(f"cat {OWN_FILE}") == "# mine\n"


def test_what_was_retired_is_onboarded_again_from_an_inventory(farm: Farm, tmp_path: Path) -> None:
    hosts = {node.name: {"ansible_host": node.ip, "fleet_labels": {"rack": "a1"}} for node in farm.nodes[:2]}
    login = {"ansible_user": "nvidia", "ansible_password": PASSWORD}
    path = tmp_path / "inventory.yml"
    path.write_text(json.dumps({"all": {"children": {"cluster_kitchen": {"hosts": hosts}}, "vars": login}}))
    farm.manager.fleet("import", str(path))
    known = farm.manager.nodes()
    for node in farm.nodes[:2]:
        about = known[node.name]
        assert (about["status"], about["cluster"], about["labels"]) == ("online", "kitchen", {"rack": "a1"})
