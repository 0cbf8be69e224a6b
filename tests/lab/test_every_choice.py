"""A Jetson with every choice made that roles offer: checked before anything is there, made, looked at from outside, and given back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing
from tests.support.plays import Plays
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def orin(make_lab: MakeLab) -> Node:
    node = make_lab("orin", 1, "--jetson", "r36.4.3")[0]
    node.shell("nvpmodel -m 0; systemctl set-default graphical.target")
    return node


@pytest.fixture(scope="module")
def manager(orin: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    with managing(tmp_path_factory.mktemp("choices") / "home", gateway(orin)) as found:
        yield found


@pytest.fixture(scope="module")
def plays(orin: Node, manager: Manager, tmp_path_factory: pytest.TempPathFactory) -> Plays:
    folder = tmp_path_factory.mktemp("plays")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    key = (folder / "key.pub").read_text().strip()
    plays = Plays(
        folder, [orin], fleet_control_plane_url=manager.url, jetson_power_mode="25W", jetson_clocks="locked", jetson_boot_target="headless",
        ssh_trust_public_keys=[key], ssh_trust_password_login="off", node_baseline_time_servers=["192.0.2.1"],
        node_baseline_users=[{"name": "alice", "groups": ["sudo"], "authorized_keys": [key]}], docker_engine_users=["nvidia"],
        docker_engine_mirrors=["http://192.0.2.9:5000"], docker_engine_insecure_registries=["192.0.2.9:5000"],
        docker_engine_data_root="/var/lib/docker/own", ansible_ssh_private_key_file=str(folder / "key"),
    )  # fmt: skip
    plays.environment = {"FLEET_HOME": str(manager.home)}
    return plays


def test_there_and_back(orin: Node, manager: Manager, plays: Plays) -> None:
    before = snapshot(orin)
    assert plays.play("onboard", "--check").changed(orin) > 15, "a fresh node survives a check"
    assert differences(before, snapshot(orin)) == []
    assert plays.play("onboard").changed(orin) > 15
    assert plays.play("onboard").changed(orin) == 0
    assert plays.play("onboard", "--check").changed(orin) == 0
    assert manager.nodes()[orin.name]["status"] == "online"

    settings = json.loads(orin.run("cat", "/etc/docker/daemon.json"))
    assert settings["node-generic-resources"] == ["NVIDIA-GPU=GPU-0"]
    told = json.loads(orin.run("docker", "info", "-f", "{{json .}}"))
    assert (told["DefaultRuntime"], told["DockerRootDir"]) == ("nvidia", "/var/lib/docker/own")
    assert orin.run("nvpmodel", "-q") == "NV Power Mode: 25W\n3\n"
    assert "GPU MinFreq=816000000" in orin.run("jetson_clocks", "--show")
    assert orin.run("systemctl", "get-default").strip() == "multi-user.target"
    assert {"docker", "sudo"} <= set(orin.run("id", "-nG", "nvidia").split())
    assert "passwordauthentication no" in orin.run("sshd", "-T")
    assert orin.run("ps", "-o", "user=", "-C", "fleet-worker").split()[0].startswith("fleet-a")
    assert orin.shell("find /var/lib/fleet-agent -perm /077 | grep -v '^/var/lib/fleet-agent$'", check=False) == ""
    assert orin.shell("ls /var/lib/fleet-agent/token 2>/dev/null", check=False) == "", "a token that was used is gone"

    assert plays.play("doctor").changed(orin) == 0
    orin.run("systemctl", "stop", "fleet-agent")
    ill = plays.play("doctor")
    assert ill.code != 0
    assert f"is not enrolled as {orin.name}" in ill.text
    orin.run("systemctl", "start", "fleet-agent")

    assert plays.play("retire").changed(orin) > 10
    assert plays.play("retire").changed(orin) == 0
    assert differences(before, snapshot(orin)) == []


def test_jetpack_4_is_refused_before_anything_is_changed(make_lab: MakeLab, plays: Plays, tmp_path: Path) -> None:
    node = make_lab("old", 1, "--jetson", "r32.7.1")[0]
    before = snapshot(node)
    refused = Plays(tmp_path, [node], **{name: value for name, value in plays.variables.items() if not name.startswith("ansible_")})
    done = refused.play("onboard")
    assert done.code != 0
    assert "This Jetson runs L4T 32, which is JetPack 4 or older; flash JetPack 5 or later" in done.text
    assert differences(before, snapshot(node)) == []


def test_a_variable_that_is_mistyped_is_named(orin: Node, plays: Plays, tmp_path: Path) -> None:
    mistyped = Plays(tmp_path, [orin], **plays.variables, docker_engine_dataroot="/mnt")
    done = mistyped.play("onboard")
    assert done.code != 0
    assert "docker_engine_dataroot is no variable of Fleet Commander; is docker_engine_data_root meant?" in done.text
