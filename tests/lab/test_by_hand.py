"""The same by ``ansible-playbook`` alone: fresh nodes, a second run that changes nothing, and the way back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet_api import collection
from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@dataclass
class Hand:
    """A person with an inventory and a control plane."""

    manager: Manager
    nodes: list[Node]
    inventory: Path
    known_hosts: Path

    def play(self, playbook: str, *more: str, code: int = 0) -> str:
        """Run a playbook as a person does, from the checkout; return what it printed."""
        root = collection.root()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "ANSIBLE_"))}
        environment |= {
            "FLEET_HOME": str(self.manager.home), "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
            "ANSIBLE_SSH_COMMON_ARGS": f"-o UserKnownHostsFile={self.known_hosts} -o StrictHostKeyChecking=accept-new",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        words = ["ansible-playbook", "-i", str(self.inventory), str(root / "playbooks" / f"{playbook}.yml"), *more]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == code, (done.stdout[-4000:], done.stderr[-2000:])
        return done.stdout


@pytest.fixture(scope="module")
def hand(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    nodes = make_lab("by-hand", 2)
    folder = tmp_path_factory.mktemp("hand")
    hosts = {
        node.name: {
            "ansible_host": node.ip, "ansible_user": node.user, "ansible_password": node.password, "ansible_become_password": node.password,
        }
        for node in nodes
    }  # fmt: skip
    with managing(folder / "home", gateway(nodes[0])) as manager:
        inventory: dict[str, Any] = {"all": {"children": {"nodes": {"hosts": hosts}}, "vars": {"fleet_control_plane_url": manager.url}}}
        (folder / "inventory.yml").write_text(json.dumps(inventory))
        yield Hand(manager, nodes, folder / "inventory.yml", folder / "known_hosts")


def recap(output: str) -> dict[str, dict[str, int]]:
    """Return the counts of a run by host."""
    return {
        host: {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", counts)}
        for host, counts in re.findall(r"^(\S+)\s+: (ok=.*)$", output, re.MULTILINE)
    }


def test_onboard_twice_and_retire(hand: Hand) -> None:
    found = {node.name: snapshot(node) for node in hand.nodes}
    first = recap(hand.play("onboard"))
    assert all(counts["failed"] == counts["unreachable"] == 0 and counts["changed"] > 0 for counts in first.values()), first
    known = hand.manager.nodes()
    assert {name: about["status"] for name, about in known.items()} == {node.name: "online" for node in hand.nodes}
    second = recap(hand.play("onboard"))
    assert {host: counts["changed"] for host, counts in second.items()} == {node.name: 0 for node in hand.nodes}
    retired = recap(hand.play("retire"))
    assert all(counts["failed"] == 0 for counts in retired.values())
    for node in hand.nodes:
        assert differences(found[node.name], snapshot(node)) == []


def test_a_node_that_another_run_holds_is_left_alone(hand: Hand) -> None:
    node = hand.nodes[0]
    node.shell("mkdir -p /run/fleet")
    boot = node.shell("cat /proc/sys/kernel/random/boot_id").strip()
    lock = {"owner": "somebody else", "boot_id": boot, "since": node.shell("date -u +%Y-%m-%dT%H:%M:%SZ").strip()}
    node.shell(f"echo '{json.dumps(lock)}' > /run/fleet/lock.json")
    try:
        said = hand.play("onboard", "--limit", node.name, code=2)
        assert "somebody else" in said
    finally:
        node.shell("rm -f /run/fleet/lock.json")


def test_the_dynamic_inventory_shows_no_secret(hand: Hand) -> None:
    hand.manager.credential(hand.nodes[0], "quite-secret")
    address = f"{hand.nodes[0].ip.rsplit('.', 1)[0]}.99"
    body: dict[str, Any] = {"hostname": "orin", "ip": address, "credential_id": "quite-secret", "cluster": "vi sion"}
    body["labels"] = {"role": "gpu", "rack": "a-1"}
    with hand.manager.client() as api:
        assert api.post("/api/nodes", json=body).status_code == 201
    environment = {**hand.manager.env, "ANSIBLE_CONFIG": str(collection.root() / "ansible.cfg")}
    program = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(collection.root() / "inventory" / "fleet.yml"), "--list"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert {"nodes", "cluster_vi_sion", "role_gpu", "label_rack_a_1", "status_discovered"} <= set(listed)
    assert listed["cluster_vi_sion"]["hosts"] == ["orin"]
    said = listed["_meta"]["hostvars"]["orin"]["ansible_host"]  # marked as data, which is never a template
    assert said in (address, {"__ansible_unsafe": address})
    assert hand.nodes[0].password not in done.stdout
    assert hand.manager.key not in done.stdout
