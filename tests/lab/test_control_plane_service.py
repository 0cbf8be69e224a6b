"""The control plane as a service on a machine of its own: installed offline, answering, upgraded after a copy of its database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lab.conftest import MakeLab
from tests.support.checkout import copied
from tests.support.plays import Plays
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

HOME, FOLDER = "/var/lib/fleet-commander", "/opt/fleet/control-plane"


def test_installed_upgraded_and_taken_away(make_lab: MakeLab, tmp_path: Path) -> None:
    node = make_lab("manager")[0]
    before = snapshot(node)
    root = copied(tmp_path / "checkout")
    plays = Plays(tmp_path, [node], root, control_plane_port=8770, control_plane_bundle_cache=str(tmp_path / "cache"))
    assert plays.play("control_plane", "--check").changed(node) > 5, "a fresh machine survives a check"
    assert differences(before, snapshot(node)) == []
    node.shell("ip route del default")  # the manager needs no internet

    assert plays.play("control_plane").changed(node) > 5
    assert plays.play("control_plane").changed(node) == 0
    as_user = f"setpriv --reuid fleet-commander --regid fleet-commander --clear-groups env FLEET_HOME={HOME} {FOLDER}/current/bin/fleet"
    node.shell(f"{as_user} keys create me --role admin --save")
    assert json.loads(node.shell(f"{as_user} status --json"))["status"]
    assert "onboard" in node.shell(f"ls {FOLDER}/current/lib/python3*/site-packages/ansible_collections/fleet/commander/playbooks")
    assert node.run("stat", "-c", "%a %U", HOME).split() == ["700", "fleet-commander"]
    assert node.run("ps", "-o", "user:20=", "-C", "fleet").split()[0] == "fleet-commander"

    running = node.run("readlink", f"{FOLDER}/current").strip()
    node.shell(f"cd {FOLDER} && mv {running} older && ln -sfn older current")  # as if an older version ran
    assert plays.play("control_plane").changed(node) >= 3
    assert node.run("readlink", f"{FOLDER}/current").strip() == running
    assert node.run("ls", f"{HOME}/backups").split() == [f"fleet-before-{running}.db"]
    assert [key["name"] for key in json.loads(node.shell(f"{as_user} keys list --json"))] == ["me"]

    away = {"ansible.builtin.include_role": {"name": "fleet.commander.control_plane", "tasks_from": "uninstall"}}
    plays.variables["control_plane_remove_data"] = True
    assert plays.play(plays.tasks(away)).changed(node) > 3
    assert differences(before, snapshot(node)) == []
