"""What goes wrong on real nodes ends in a state with a sentence that says what to do; a retry then succeeds."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.conftest import MakeLab
from tests.support.lab import Node
from tests.support.manager import Manager, gateway, managing, ok

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@dataclass
class Bench:
    manager: Manager
    node: Node
    credential: str

    def fails(self, *says: str, credential: str | None = None) -> str:
        """Onboard the node, which fails with a sentence; return the operation."""
        operation = self.manager.join(self.node, credential or self.credential)
        row = self.manager.ended(operation)
        assert row["state"] == "failed", row
        assert any(each in row["reason"] for each in says), row["reason"]
        return operation

    def retry(self, operation: str) -> str:
        with self.manager.client() as api:
            return str(ok(api.post(f"/api/operations/{operation}/retry"))["id"])


@pytest.fixture(scope="module")
def bench(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    [node] = make_lab("faults", 1)
    with managing(tmp_path_factory.mktemp("faults") / "home", gateway(node)) as manager:
        yield Bench(manager, node, manager.credential(node, "good"))


def test_a_wrong_password(bench: Bench) -> None:
    with bench.manager.client() as api:
        wrong = ok(api.post("/api/vault", json={"name": "wrong", "username": "nvidia", "password": "not the password"}))["id"]
        operation = bench.fails("refuses", "refused", credential=wrong)
        assert api.get("/api/nodes").json()["nodes"] == []
        ok(api.patch(f"/api/vault/{wrong}", json={"password": "still not it"}))
        assert bench.manager.ended(bench.retry(operation))["state"] == "failed"


def test_a_machine_that_is_not_there(bench: Bench) -> None:
    nobody = f"{bench.node.ip.rsplit('.', 1)[0]}.250"
    started = time.monotonic()
    with bench.manager.client() as api:
        operation = ok(api.post("/api/network/join", json={"ip": nobody, "credential_id": bench.credential}))["operation_id"]
    row = bench.manager.ended(operation)
    assert (row["state"], time.monotonic() - started < 15) == ("failed", True)
    assert nobody in row["reason"]


def test_sudo_says_no(bench: Bench) -> None:
    bench.node.run("gpasswd", "-d", "nvidia", "sudo")
    try:
        operation = bench.fails("sudo")
    finally:
        bench.node.run("gpasswd", "-a", "nvidia", "sudo")
    assert "sudo" in str(bench.manager.ended(operation)["reason"])


def test_a_full_disk(bench: Bench) -> None:
    bench.node.shell("mount -t tmpfs -o size=256k tmpfs /var/cache/apt/archives && mkdir -p /var/cache/apt/archives/partial")
    bench.node.shell("mkdir -p /opt/fleet && mount -t tmpfs -o size=64k tmpfs /opt/fleet")
    try:
        operation = bench.fails("full", "space", "MiB free on this node")
        assert bench.manager.nodes()[bench.node.name]["status"] == "discovered"
    finally:
        bench.node.shell("umount /var/cache/apt/archives; umount /opt/fleet; rmdir /opt/fleet")
    assert "retry" in bench.manager.ended(operation)["reason"] or "try again" in bench.manager.ended(operation)["reason"]


def test_a_node_that_restarts_in_mid_play(bench: Bench) -> None:
    operation = bench.manager.join(bench.node, bench.credential)
    deadline = time.monotonic() + 100
    while bench.manager.operation(operation)["step"] not in ("node_baseline", "docker_engine"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.5)
    subprocess.run(["docker", "stop", "-t", "1", bench.node.name], check=True, capture_output=True)
    row = bench.manager.ended(operation, 90)
    subprocess.run(["docker", "start", bench.node.name], check=True, capture_output=True)
    assert row["state"] == "failed", row
    assert "retry" in row["reason"]
    deadline = time.monotonic() + 60
    while bench.node.run("systemctl", "is-active", "ssh", check=False).strip() != "active":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    again = bench.manager.ended(bench.retry(operation))
    assert again["state"] == "succeeded", (again["reason"], [each["text"] for each in bench.manager.events(again["id"])][-10:])


def test_another_program_that_installs_packages_is_waited_for(bench: Bench) -> None:
    bench.node.shell("apt-get remove -qy logrotate >/dev/null 2>&1; true")
    holder = "import fcntl,time; f=open('/var/lib/dpkg/lock-frontend','r+'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(12)"
    subprocess.run(["docker", "exec", "-d", bench.node.name, "python3", "-c", holder], check=True)
    operation = bench.manager.join(bench.node, bench.credential)
    bench.manager.succeeded(operation)


def test_a_board_that_was_flashed_anew_under_its_old_name(bench: Bench) -> None:
    bench.node.shell("rm /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null; systemd-id128 new > /etc/machine-id; systemctl restart ssh")
    bench.node.shell("systemctl stop fleet-agent; rm -rf /var/lib/fleet-agent/identity.json")
    operation = bench.manager.join(bench.node, bench.credential)
    row = bench.manager.ended(operation)
    assert "host_key_changed" in row["reason"]
    assert bench.manager.nodes()[bench.node.name]["status"] == "host_key_changed"
    real = set(bench.node.shell("for key in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf $key; done").split())
    [fingerprint] = real & set(re.findall(r"SHA256:[A-Za-z0-9+/]+", row["reason"]))
    with bench.manager.client() as api:
        wrong = api.post(f"/api/nodes/{bench.node.name}/accept-host-key", json={"fingerprint": "SHA256:" + "a" * 43})
        assert wrong.status_code == 409
        ok(api.post(f"/api/nodes/{bench.node.name}/accept-host-key", json={"fingerprint": fingerprint}))
    again = bench.retry(operation)
    bench.manager.succeeded(again)
    assert any("Another machine than before" in each["text"] for each in bench.manager.events(again))
    assert bench.manager.nodes()[bench.node.name]["status"] == "online"
