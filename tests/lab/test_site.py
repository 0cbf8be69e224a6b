"""The whole fleet from nothing by one playbook and no key; then its control plane moves to another machine, by the documented steps."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.plays import Plays

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


def nodes_of(manager: Node) -> dict[str, dict[str, Any]]:
    """Return every node that a manager knows, by its name."""
    known: list[dict[str, Any]] = json.loads(manager.run("fleet", "nodes", "--json"))
    return {each["id"]: each for each in known}


def online(manager: Node, name: str) -> None:
    """Wait until a manager sees a node at work."""
    deadline = time.monotonic() + 30
    while nodes_of(manager).get(name, {}).get("status") != "online":
        assert time.monotonic() < deadline, nodes_of(manager)
        time.sleep(0.2)


def copy_data(old: Node, new: Node) -> None:
    """Copy the data folder as ``rsync -a`` does, where it knows none of the other machine's users."""
    pack = subprocess.Popen(["docker", "exec", old.name, "tar", "-C", "/var/lib", "-c", "fleet-commander"], stdout=subprocess.PIPE)
    unpack = ["docker", "exec", "-i", new.name, "tar", "-C", "/var/lib", "-x", "--numeric-owner", "-p"]
    subprocess.run(unpack, stdin=pack.stdout, check=True)
    assert pack.wait() == 0


def test_one_run_makes_a_fleet_and_its_manager_may_move(make_lab: MakeLab, tmp_path: Path) -> None:
    old, node, new = make_lab("site", 3)
    plays = Plays(tmp_path, [node], managers=[old], fleet_control_plane_url=f"https://{old.ip}:8765")
    plays.environment = {"FLEET_HOME": str(tmp_path / "home")}  # of a controller that is no control plane and has no key
    first = plays.play("site")
    assert first.changed(node) > 5
    assert first.changed(old) > 5
    key = json.loads(old.run("fleet", "keys", "create", "me", "--role", "admin", "--save", "--json"))["key"]
    online(old, node.name)
    again = plays.play("site")
    assert (again.changed(old), again.changed(node)) == (0, 0), again.text[-4000:]
    identity = node.run("cat", "/var/lib/fleet-agent/identity.json")

    new.shell("useradd --system first-come")  # so that the service's user gets another number here
    old.run("systemctl", "disable", "--now", "fleet-commander")
    copy_data(old, new)
    plays.inventory([node], [new])
    plays.variables["fleet_control_plane_url"] = f"https://{new.ip}:8765"
    assert plays.play("control_plane").changed(new) > 5
    assert plays.play("onboard").changed(node) > 0
    online(new, node.name)
    assert node.run("cat", "/var/lib/fleet-agent/identity.json") == identity
    assert [each["name"] for each in json.loads(new.run("fleet", "keys", "list", "--json"))] == ["me"]
    assert new.run("cat", "/var/lib/fleet-commander/key").strip() == key
    owners = set(new.run("find", "/var/lib/fleet-commander", "-printf", "%u %g\n").splitlines())
    assert owners == {"fleet-commander fleet-commander"}
    assert plays.play("control_plane").changed(new) == 0

    plays.variables |= {"gpu_inference_manager": new.name, "gpu_inference_drain": "always", "gpu_inference_load": "fleet-shapes-pastel"}
    assert plays.play("gpu_inference").changed(node) > 3, "the manager is asked, where no key is needed"
    known = {each["name"]: each for each in json.loads(new.run("fleet", "models", "--json"))}
    assert known["fleet-shapes-pastel"]["loaded_on"] == [node.name]
    assert json.loads(new.run("fleet", "drain", node.name, "--back", "--json"))["changed"] is False, "it gets jobs again already"
