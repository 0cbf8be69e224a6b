"""Commands, logs and scans on real nodes: systemd, OpenSSH's server and sudo as Debian has them."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.lab import Node

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture
def fleet(api: TestClient, lab: list[Node]) -> TestClient:
    """A control plane that knows the lab's nodes by their names."""
    for node in lab:
        made = api.post("/api/vault", json={"name": node.name, "username": node.user, "password": node.password}).json()
        body = {"id": node.name, "ip": node.ip, "credential_id": made["id"], "cluster": "lab"}
        api.post("/api/nodes", json=body).raise_for_status()
    return api


def run(api: TestClient, node: Node, command: str, **more: Any) -> Any:
    return api.post("/api/ssh/exec-node", json={"node_id": node.name, "command": command, **more})


def test_commands_on_all(fleet: TestClient, lab: list[Node]) -> None:
    body = {"cluster": "lab", "command": "hostname; id -un >&2", "become": True}
    answer = fleet.post("/api/ssh/exec", json=body).json()
    assert [each["stdout"].strip() for each in answer["results"]] == [node.run("hostname").strip() for node in lab]
    assert {each["stderr"] for each in answer["results"]} == {"root\n"}


def test_what_hangs_as_root_is_ended(fleet: TestClient, lab: list[Node]) -> None:
    answer = run(fleet, lab[0], "sleep 7999 & setsid sleep 7999 & sleep 7999", become=True, timeout=1)
    assert answer.status_code == 504
    assert "was stopped" in answer.json()["detail"]
    assert lab[0].shell("pgrep -f '[s]leep 7999'", check=False) == ""


def test_a_password_of_sudo_alone(fleet: TestClient, lab: list[Node]) -> None:
    fleet.patch(f"/api/vault/{lab[0].name}", json={"become_password": "wrong"}).raise_for_status()
    refused = run(fleet, lab[0], "sudo -K; id", become=True)
    assert refused.status_code == 409
    assert "its password is wrong" in refused.json()["detail"]


def test_the_journal_is_followed(fleet: TestClient, lab: list[Node]) -> None:
    mark = f"marked {time.monotonic()}"
    lab[0].shell("systemd-run --quiet --wait --unit fleet-agent sh -c 'echo before'")  # there is at least one line to begin with
    with fleet.websocket_connect(f"/ws/logs/{lab[0].name}") as socket:
        first = socket.receive_json()
        assert first["source"] == "ssh"
        lab[0].shell(f"systemd-run --quiet --wait --unit fleet-agent sh -c 'echo \"<3>{mark}\"'")
        while True:
            line = socket.receive_json()
            if line["message"] == mark:
                break
    assert (line["level"], line["source"], line["node_id"]) == ("error", "fleet-agent", lab[0].name)
    deadline = time.monotonic() + 10
    while lab[0].shell("pgrep -f [j]ournalctl", check=False):
        assert time.monotonic() < deadline, "it is ended on the node too, when nobody watches"
        time.sleep(0.1)


def test_a_node_that_stands_still(fleet: TestClient, lab: list[Node]) -> None:
    assert run(fleet, lab[1], "true").status_code == 200
    subprocess.run(["docker", "pause", lab[1].name], check=True, capture_output=True)
    try:
        started = time.monotonic()
        answer = fleet.post("/api/ssh/exec?stream=true", json={"cluster": "lab", "command": "echo on", "timeout": 2})
        took = time.monotonic() - started
    finally:
        subprocess.run(["docker", "unpause", lab[1].name], check=True, capture_output=True)
    results = {each["node_id"]: each for each in map(json.loads, answer.text.splitlines())}
    assert results[lab[0].name]["stdout"] == "on\n"
    assert results[lab[1].name]["status"] == 504
    assert took < 20
    deadline = time.monotonic() + 30
    while run(fleet, lab[1], "true").status_code != 200:
        assert time.monotonic() < deadline


def test_a_scan_finds_them(fleet: TestClient, lab: list[Node]) -> None:
    subnet = f"{lab[0].ip.rsplit('.', 1)[0]}.0/24"
    started = time.monotonic()
    body = fleet.get(f"/api/network/scan?subnet={subnet}").json()
    assert time.monotonic() - started < 4
    by_ip = {each["ip"]: each for each in body["devices"]}
    for node in lab:
        found = by_ip[node.ip]
        assert (found["node_id"], found["ports"], found["is_jetson"]) == (node.name, [22], None)
        assert found["banner"].startswith("SSH-2.0-OpenSSH")
        assert found["mac"] == node.shell("cat /sys/class/net/eth0/address").strip()
