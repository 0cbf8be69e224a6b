"""``fleet exec`` and ``fleet scan`` on a control plane that runs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.command import Command
from tests.support.live import Live
from tests.support.sshd import PASSWORD, USER, Sshd, sshd


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd() as running:
        yield running


@pytest.fixture(scope="module")
def nodes(served: Live, server: Sshd) -> Live:
    with httpx.Client(base_url=served.url, trust_env=False) as http:
        made = http.post("/api/vault", json={"name": "lab", "username": USER, "password": PASSWORD}).json()
        for node_id, port in (("n1", server.port), ("dead", 9)):
            body = {"id": node_id, "ip": "127.0.0.1", "ssh_port": port, "credential_id": made["id"], "cluster": "vision"}
            http.post("/api/nodes", json=body).raise_for_status()
    return served


def test_on_one_node(fleet: Command, nodes: Live) -> None:
    done = fleet("exec", "--url", nodes.url, "n1", "--", "echo", "a  b", "--json", "-b")
    assert done.stdout == "a  b --json -b\n"
    assert fleet("exec", "--url", nodes.url, "n1", "--", "echo one | cat; printf '\\033[2J' ").stdout == "one\n\\x1b[2J\n"
    failed = fleet("exec", "--url", nodes.url, "n1", "--", "echo out; echo wrong >&2; exit 3", code=1)
    assert (failed.stdout, failed.stderr) == ("out\n", "wrong\nfleet: exit status 3\n")
    assert "fleet: ended by SIGKILL" in fleet("exec", "--url", nodes.url, "n1", "--", "kill -9 $$", code=1).stderr
    assert "did not end within 0.3 s" in fleet("exec", "--url", nodes.url, "--timeout", "0.3", "n1", "--", "sleep 9", code=1).stderr
    assert fleet("exec", "--url", nodes.url, "--become", "n1", "--", "id", "-un").stdout == "root\n"


def test_on_many(fleet: Command, nodes: Live) -> None:
    done = fleet("exec", "--url", nodes.url, "--cluster", "vision", "--", "echo hi", code=1)
    assert done.stdout == "n1: hi\n"
    assert "dead: fleet: No SSH connection to dead" in done.stderr
    printed = fleet("exec", "--url", nodes.url, "--json", "n1", "dead", "--", "echo hi", code=1).stdout
    assert [each["status"] for each in json.loads(printed)] == [504, 200]


@pytest.mark.parametrize("path", ["/api/ssh/exec?stream=true", "/api/ssh/exec", "/api/ssh/exec-node"])
def test_who_hangs_up_ends_the_command(nodes: Live, path: str) -> None:
    mark = f"sleep 78{len(path)}"
    body = {"node_id": "n1", "command": mark} if path.endswith("node") else {"node_ids": ["n1"], "command": mark}
    with httpx.Client(base_url=nodes.url, trust_env=False, timeout=1) as http, pytest.raises(httpx.ReadTimeout):
        http.post(path, json=body)
    deadline = time.monotonic() + 5
    while mark in running():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_would_be_seen() -> None:
    with subprocess.Popen(["sleep", "7801"]) as process:
        try:
            deadline = time.monotonic() + 5
            while "sleep 7801" not in running():  # a process that has just begun may show no arguments yet
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()


def running() -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
    return found


def test_a_changed_host_key_is_accepted(fleet: Command, nodes: Live, server: Sshd) -> None:
    fleet("exec", "--url", nodes.url, "n1", "--", "true")
    server.new_host_key()
    deadline = time.monotonic() + 5
    while "host_key_changed" not in (refused := fleet("exec", "--url", nodes.url, "n1", "--", "true", code=1).stderr):
        assert time.monotonic() < deadline, refused
    assert "SHA256:" in fleet("nodes", "--url", nodes.url, "--accept-host-key", "n1", "SHA256:" + "A" * 43, code=4).stderr
    accepted = fleet("nodes", "--url", nodes.url, "--accept-host-key", "n1", server.fingerprint).stdout
    assert accepted == f"n1: the host key {server.fingerprint} is pinned\n"
    assert fleet("exec", "--url", nodes.url, "n1", "--", "echo again").stdout == "again\n"


def test_written_wrongly(fleet: Command, nodes: Live) -> None:
    assert "after two dashes" in fleet("exec", "n1", "echo", code=2).stderr
    assert "name nodes, or give --cluster" in fleet("exec", "--", "echo", code=2).stderr
    assert "There is no node 'nope'" in fleet("exec", "--url", nodes.url, "nope", "--", "true", code=4).stderr


def test_a_scan(fleet: Command, nodes: Live, server: Sshd) -> None:
    done = fleet("scan", "--url", nodes.url, "127.0.0.1/32")
    assert "127.0.0.1" in done.stdout
    assert "1 machines in 127.0.0.1/32" in done.stdout
    assert fleet.json("scan", "--url", nodes.url, "127.0.0.1/32")["cached"] is True
    assert "FLEET_ALLOWED_NETWORKS" in fleet("scan", "--url", nodes.url, "192.0.2.0/24", code=4).stderr
