"""Every module that changes a node: check, apply, again, check again; and the same on the way back, which leaves the node as found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import MakeLab
from tests.support.plays import Plays
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
JSON = str(ROOT / "gpu_inference" / "builtin" / "model" / "manifest.json")

THERE = [
    {"fleet.commander.fleet_packages": {"owner": "test", "names": ["logrotate", "rsync"], "leftover_paths": ["/var/lib/logrotate"]}},
    {"fleet.commander.fleet_file": {"path": "/etc/issue", "lines": ["ours"]}},
    {"fleet.commander.fleet_file": {"path": "/etc/fleet-test/deep/settings.json", "keys": {"ours": {"a": 1}}}},
    {"fleet.commander.fleet_file": {"path": "/etc/systemd/system/fleet-test.service", "content": "[Service]\nExecStart=/bin/sleep 600\n"}},
    {"fleet.commander.fleet_file": {"path": "/opt/fleet-test", "state": "directory", "mode": "0700"}},
    {"fleet.commander.fleet_secret_file": {"path": "/etc/fleet-test/secret", "source": __file__, "group": "games", "mode": "0640"}},
    {"fleet.commander.fleet_secret_file": {"path": "/root/.fleet-test/config.json", "source": JSON, "merge": True, "folder_mode": "0700"}},
    {"fleet.commander.fleet_unit": {"name": "fleet-test", "active": True}},
    {"fleet.commander.fleet_unit": {"name": "ssh", "enabled": False}},
    {"fleet.commander.fleet_account": {"name": "fleet-test", "system": True, "groups": ["fleet-testers"]}},
    {"fleet.commander.fleet_account": {"name": "nvidia", "groups": ["games"]}},
    {"fleet.commander.fleet_jetson": {"power_mode": "25W", "boot_target": "headless"}},
]
BACK = [
    {"fleet.commander.fleet_jetson": {"state": "restored"}},
    {"fleet.commander.fleet_account": {"name": "nvidia", "state": "restored"}},
    {"fleet.commander.fleet_account": {"name": "fleet-test", "state": "restored"}},
    {"fleet.commander.fleet_unit": {"name": "ssh", "state": "restored"}},
    {"fleet.commander.fleet_unit": {"name": "fleet-test", "state": "restored"}},
    {"fleet.commander.fleet_secret_file": {"path": "/root/.fleet-test/config.json", "state": "restored"}},
    {"fleet.commander.fleet_secret_file": {"path": "/etc/fleet-test/secret", "state": "restored"}},
    {"fleet.commander.fleet_file": {"path": "/opt/fleet-test", "state": "restored", "purge": True}},
    {"fleet.commander.fleet_file": {"path": "/etc/systemd/system/fleet-test.service", "state": "restored"}},
    {"fleet.commander.fleet_file": {"path": "/etc/fleet-test/deep/settings.json", "state": "restored"}},
    {"fleet.commander.fleet_file": {"path": "/etc/issue", "state": "restored"}},
    {"fleet.commander.fleet_packages": {"owner": "test", "state": "restored"}},
]


def test_there_and_back(make_lab: MakeLab, tmp_path: Path) -> None:
    node = make_lab("modules", 1, "--jetson", "r36.4.3")[0]
    node.shell("systemctl set-default graphical.target; nvpmodel -m 0")
    plays = Plays(tmp_path, [node])
    before = snapshot(node)
    steps = []
    for tasks in (THERE, BACK):
        playbook = plays.tasks(*tasks)
        # The order of the first check: a unit whose file would be written by the task before it.
        steps += [plays.play(playbook, *words).changed(node) for words in (["--check"], [], [], ["--check"])]
        if tasks is THERE:
            node.shell("touch /opt/fleet-test/made-by-the-service")
            assert node.run("systemctl", "is-active", "fleet-test").strip() == "active"
            assert node.run("nvpmodel", "-q") == "NV Power Mode: 25W\n3\n"
            assert "ours" in node.run("cat", "/etc/issue")
            assert differences(before, snapshot(node)) != []
    assert steps == [12, 12, 0, 0, 12, 12, 0, 0]
    assert differences(before, snapshot(node)) == []


def test_packages_wait_for_another_manager_and_mend_what_was_cut_off(make_lab: MakeLab, tmp_path: Path) -> None:
    node = make_lab("modules", 1, "--jetson", "r36.4.3")[0]
    plays = Plays(tmp_path, [node])
    install = plays.tasks({"fleet.commander.fleet_packages": {"owner": "busy", "names": ["xz-utils"], "lock_timeout": 2}})
    hold = "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep({})"
    node.shell(f'nohup python3 -c "{hold.format(8)}" >/dev/null 2>&1 & sleep 0.5')
    refused = plays.play(install)
    assert refused.code != 0
    assert "in use by python3 (process" in refused.text
    assert "Traceback" not in refused.text
    node.shell("sleep 8; dpkg --unpack $(ls /usr/share/fleet-lab/apt/xz-utils*.deb)")
    assert "xz-utils" in node.run("dpkg", "--audit")
    assert plays.play(plays.tasks({"fleet.commander.fleet_packages": {"owner": "mend", "names": ["curl"]}})).changed(node) == 1
    assert node.run("dpkg", "--audit") == ""


def test_a_play_by_hand_sees_the_lock_of_an_operation(make_lab: MakeLab, tmp_path: Path) -> None:
    node = make_lab("modules", 1, "--jetson", "r36.4.3")[0]
    plays = Plays(tmp_path, [node], fleet_operation="0b5c")
    take = plays.tasks({"fleet.commander.fleet_node_lock": {}})
    assert plays.play(take).code == 0
    plays.variables = {}
    refused = plays.play("onboard")
    assert refused.code != 0
    assert "operation 0b5c has held it since" in refused.text
    assert node.run("cat", "/run/fleet/lock.json").count("0b5c") == 1, "who does not hold it frees nothing"
    node.run("rm", "/run/fleet/lock.json")
