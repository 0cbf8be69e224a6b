"""The lab is what it says: real systemd, real sshd, and only its own things are touched."""

from __future__ import annotations

import json
import socket
import subprocess

import pytest

from tests.lab.conftest import MakeLab
from tests.support.lab import Node, fleet, lab_name

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


def labelled(kind: str, name: str) -> list[str]:
    words = ["docker", kind, "ls", "-q", "--filter", f"label=fleet.lab={name}"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


def test_nodes_boot_systemd_without_a_failed_unit(lab: list[Node]) -> None:
    for node in lab:
        assert node.shell("systemctl is-system-running --wait", check=False).strip() == "running", node.run("systemctl", "--failed")


def test_nodes_are_told_apart(lab: list[Node]) -> None:
    for words in (["cat", "/etc/machine-id"], ["cat", "/proc/sys/kernel/random/boot_id"], ["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]):
        said = [node.run(*words).strip() for node in lab]
        assert len({*said}) == len(lab)
        assert all(said)


def test_the_user_signs_in_and_sudo_asks_for_the_password(lab: list[Node]) -> None:
    node = lab[0]
    with socket.create_connection((node.ip, 22), timeout=5) as connection:
        assert connection.recv(4) == b"SSH-"
    assert "password is required" in node.shell(f"su {node.user} -c 'sudo -n true' 2>&1", check=False)
    assert node.shell(f"su {node.user} -c 'echo {node.password} | sudo -S -p \"\" id -u'").strip() == "0"


def test_packages_install_without_a_network(lab: list[Node]) -> None:
    node = lab[1]
    node.shell("ip route del default")
    try:
        node.shell("apt-get update -q && apt-get install -qy --no-install-recommends logrotate")
        assert node.shell("dpkg-query -W -f '${Status}' logrotate") == "install ok installed"
    finally:
        node.shell(
            "apt-get purge -qy logrotate && apt-get autoremove -qy --purge && ip route add default via $(hostname -i | sed 's/[0-9]*$/1/')"
        )


def test_a_node_starts_again_with_its_address_and_another_boot_id(make_lab: MakeLab) -> None:
    node = make_lab("again")[0]
    before = node.run("cat", "/proc/sys/kernel/random/boot_id")
    subprocess.run(["docker", "stop", "-t", "5", node.name], check=True, capture_output=True)
    assert make_lab("again")[0] == node
    assert node.run("cat", "/proc/sys/kernel/random/boot_id") != before
    assert node.ip in node.run("hostname", "-i")


def test_a_start_that_was_cut_off_is_made_good(make_lab: MakeLab) -> None:
    node = make_lab("cut", 1, "--jetson", "r35.4.1")[0]
    node.shell(f"rm /etc/fleet-lab/set-up; dpkg --purge nvidia-jetpack; passwd -d {node.user}")
    assert make_lab("cut", 1, "--jetson", "r35.4.1") == [node]
    assert node.run("dpkg-query", "-W", "-f", "${Version}", "nvidia-jetpack") == "5.1.2-b104"
    assert node.shell(f"su {node.user} -c 'echo {node.password} | sudo -S -p \"\" id -u'").strip() == "0"


def test_more_nodes_leave_those_there_alone_and_down_leaves_nothing(make_lab: MakeLab) -> None:
    name = lab_name("grows")
    first = make_lab("grows")[0]
    first.shell("touch /root/kept")
    assert [node.name for node in make_lab("grows", 2)] == [f"{name}-1", f"{name}-2"]
    assert first.run("ls", "/root").strip() == "kept"
    assert fleet("lab", "down", "--name", name).returncode == 0
    assert not any(labelled(kind, name) for kind in ("container", "volume", "network"))
    assert fleet("lab", "status", "--name", name).returncode == 4


def test_two_labs_have_subnets_of_their_own(lab: list[Node], make_lab: MakeLab) -> None:
    other = make_lab("other")[0]
    assert other.ip.rsplit(".", 1)[0] != lab[0].ip.rsplit(".", 1)[0]


def test_a_jetson_answers_as_one_and_runs_containers(make_lab: MakeLab) -> None:
    node = make_lab("jetson", 1, "--jetson", "r36.4.3", "--docker")[0]
    assert node.jetson == "r36.4.3"
    assert node.run("cat", "/etc/nv_tegra_release").startswith("# R36 (release), REVISION: 4.3,")
    assert node.run("dpkg-query", "-W", "-f", "${Version}", "libnvinfer10") == "10.3.0.30-1+cuda12.5"
    assert node.run("cat", "/etc/fleet-lab/device-tree/compatible").split("\0")[-2] == "nvidia,tegra234"
    node.run("nvpmodel", "-m", "3")
    assert node.run("nvpmodel", "-q") == "NV Power Mode: 25W\n3\n"
    assert "GR3D_FREQ 10%@1300" in node.shell("timeout 1 tegrastats --interval 100 | head -1")
    assert json.loads(node.run("docker", "info", "-f", "{{json .Driver}}")) == "overlay2"


def test_another_kind_of_node_is_refused_by_name(make_lab: MakeLab) -> None:
    make_lab("plain")
    said = fleet("lab", "up", "--name", lab_name("plain"), "--docker")
    assert said.returncode == 4
    assert "take it down first" in said.stderr
