"""Commands on nodes through the API, on a real SSH server that stands for them."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.nodes.states import NodeState
from fleet_api.settings import Settings
from tests.support.sshd import PASSWORD, USER, Sshd, sshd


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd() as running:
        yield running


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"exec_burst": 1000})


@pytest.fixture
def fleet(api: TestClient, server: Sshd) -> TestClient:
    """An API with two nodes that answer, one that is dead, and one without a credential."""
    api.post("/api/vault", json={"name": "lab", "username": USER, "password": PASSWORD}).raise_for_status()
    lab = api.get("/api/vault").json()[0]["id"]
    for node_id, ip, port in (("n1", "127.0.0.1", server.port), ("dead", "127.0.0.9", 9)):
        body = {"id": node_id, "ip": ip, "ssh_port": port, "credential_id": lab, "cluster": "vision"}
        answer = api.post("/api/nodes", json=body)
        assert answer.status_code == 201, answer.text
    api.post("/api/nodes", json={"id": "bare", "ip": "127.0.0.8"}).raise_for_status()
    return api


def run(api: TestClient, command: str, node_id: str = "n1", **more: Any) -> Any:
    return api.post("/api/ssh/exec-node", json={"node_id": node_id, "command": command, **more})


def test_a_command(fleet: TestClient) -> None:
    answer = run(fleet, 'echo "grüß $0"; echo err >&2; exit 3')
    assert answer.status_code == 200
    body = answer.json()
    assert {name: body[name] for name in ("node_id", "host", "stderr", "exit_status")} == {
        "node_id": "n1", "host": "127.0.0.1", "stderr": "err\n", "exit_status": 3,
    }  # fmt: skip
    assert body["stdout"].startswith("grüß ")
    other = fleet.post("/api/fleet/exec/n1", json={"command": "cat", "stdin": "in"})
    assert other.json()["stdout"] == "in"
    assert run(fleet, "id -un", become=True).json()["stdout"] == "root\n"


@pytest.mark.parametrize(
    ("node_id", "status", "sentence"),
    [
        ("nope", 404, "There is no node 'nope'"),
        ("bare", 409, "Node 'bare' has no credential for SSH; set credential_id with PATCH /api/nodes/bare."),
        ("dead", 504, "No SSH connection to dead (127.0.0.9 port 9): connection refused; see that its SSH server runs."),
    ],
)
def test_nodes_that_cannot(fleet: TestClient, node_id: str, status: int, sentence: str) -> None:
    for answer in (run(fleet, "true", node_id), fleet.post(f"/api/fleet/exec/{node_id}", json={"command": "true"})):
        assert answer.status_code == status
        assert answer.json()["detail"].startswith(sentence)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"command": ""}, {"command": "x\x00"}, {"command": 3}, {"command": "x", "timeout": 0}, {"command": "x", "timeout": -1},
        {"command": "x", "timeout": 3601}, {"command": "x", "timeout": "5"}, {"command": "x", "become": "perhaps"},
        {"command": "x" * 70_000},
    ],
)  # fmt: skip
def test_what_is_no_command(fleet: TestClient, body: dict[str, Any]) -> None:
    for path, more in (("/api/ssh/exec-node", {"node_id": "n1"}), ("/api/fleet/exec/n1", {}), ("/api/ssh/exec", {"node_ids": ["n1"]})):
        refused = fleet.post(path, json={**body, **more})
        assert refused.status_code == 400
        assert refused.json()["detail"].endswith(".")


def test_too_long(fleet: TestClient) -> None:
    answer = run(fleet, "sleep 30", timeout=0.3)
    assert (answer.status_code, answer.json()["detail"]) == (
        504, "The command did not end within 0.3 s on n1 and was stopped; give it a longer timeout.",
    )  # fmt: skip


def test_many_at_once(fleet: TestClient) -> None:
    answer = fleet.post("/api/ssh/exec", json={"node_ids": ["n1", "dead", "bare"], "command": "echo hi"})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["ok"], body["failed"]) == (1, 2)
    by_node = {each["node_id"]: each for each in body["results"]}
    assert by_node["n1"]["stdout"] == "hi\n"
    assert (by_node["n1"]["error"], by_node["n1"]["status"], by_node["n1"]["exit_status"]) == (None, 200, 0)
    assert (by_node["dead"]["status"], by_node["dead"]["exit_status"]) == (504, None)
    assert by_node["bare"]["status"] == 409
    assert fleet.post("/api/ssh/exec", json={"node_ids": ["n1", "nope"], "command": "x"}).status_code == 404
    assert fleet.post("/api/ssh/exec", json={"cluster": "nope", "command": "x"}).status_code == 404
    for wrong in ({}, {"node_ids": []}, {"node_ids": ["n1"], "cluster": "vision"}):
        refused = fleet.post("/api/ssh/exec", json={"command": "x", **wrong})
        assert refused.status_code == 400, wrong
    in_cluster = fleet.post("/api/ssh/exec", json={"cluster": "vision", "command": "echo hi"}).json()["results"]
    assert [each["node_id"] for each in in_cluster] == ["dead", "n1"]


def test_many_as_a_stream(fleet: TestClient) -> None:
    command = "echo one; sleep 20"
    started = time.monotonic()
    answer = fleet.post("/api/ssh/exec?stream=true", json={"node_ids": ["n1", "dead"], "command": command, "timeout": 0.5})
    assert time.monotonic() - started < 6
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["node_id"] for line in lines] == ["dead", "n1"], "as they end"
    assert (lines[1]["stdout"], lines[1]["status"], lines[1]["exit_status"]) == ("one\n", 504, None)


def test_the_audit_names_node_and_command(fleet: TestClient) -> None:
    run(fleet, "echo password=hunter2222")
    entry = fleet.get("/api/audit?limit=1").json()["entries"][0]
    assert entry["row"] == "POST /api/ssh/exec-node"
    assert entry["path"] == "/api/ssh/exec-node n1: echo password=[secret]"


def test_only_so_often(api: TestClient) -> None:
    app_limits = api.app.state.fleet.exec_limits  # type: ignore[attr-defined]
    app_limits._burst = 2
    api.headers["X-API-Key"] = api.post("/api/keys", json={"name": "k", "role": "admin"}).json()["key"]
    statuses = [run(api, "true", "nope").status_code for _ in range(3)]
    assert statuses == [404, 404, 429]
    refused = run(api, "true", "nope")
    assert "one caller may run commands 300 a minute" in refused.json()["detail"]
    assert refused.headers["retry-after"]


def test_a_changed_host_key(fleet: TestClient, server: Sshd) -> None:
    assert run(fleet, "true").status_code == 200
    state = fleet.app.state.fleet  # type: ignore[attr-defined]
    fleet.portal.call(partial(state.nodes.change, "n1", state=NodeState.MANAGED))  # type: ignore[union-attr]
    old = server.fingerprint
    server.new_host_key()
    new = server.fingerprint
    assert old != new
    refused = run(fleet, "true")
    deadline = time.monotonic() + 3
    while refused.status_code == 504 and time.monotonic() < deadline:  # the old connection's end is being noticed
        refused = run(fleet, "true")
    assert refused.status_code == 409, refused.text
    detail = refused.json()["detail"]
    assert detail.startswith("host_key_changed: n1 (127.0.0.1 port")
    for part in (old, new, "POST /api/nodes/n1/accept-host-key"):
        assert part in detail
    node = fleet.get("/api/nodes/n1").json()
    assert node["status"] == "host_key_changed"
    assert node["reason"] == f"Its SSH host key changed from {old} to {new}."
    wrong = fleet.post("/api/nodes/n1/accept-host-key", json={"fingerprint": "SHA256:" + "A" * 43})
    assert wrong.status_code == 409
    assert new in wrong.json()["detail"]
    for bad in ({}, {"fingerprint": "x"}, {"fingerprint": None}):
        assert fleet.post("/api/nodes/n1/accept-host-key", json=bad).status_code == 400
    assert fleet.post("/api/nodes/nope/accept-host-key", json={"fingerprint": new}).status_code == 404
    assert run(fleet, "true").status_code == 409, "not yet accepted"
    accepted = fleet.post("/api/nodes/n1/accept-host-key", json={"fingerprint": new})
    assert accepted.json()["fingerprint"] == new
    node = fleet.get("/api/nodes/n1").json()
    assert (node["status"], node["reason"]) == ("offline", None)
    assert run(fleet, "echo again").json()["stdout"] == "again\n"
    assert fleet.post("/api/nodes/n1/accept-host-key", json={"fingerprint": new}).status_code == 200, "once more is no error"


def test_an_address_that_is_not_allowed(fleet: TestClient) -> None:
    fleet.post("/api/nodes", json={"id": "far", "ip": "192.0.2.1", "credential_id": fleet.get("/api/vault").json()[0]["id"]})
    if "far" in [node["id"] for node in fleet.get("/api/nodes").json()["nodes"]]:
        refused = run(fleet, "true", "far")
        assert refused.status_code == 400
        assert "FLEET_ALLOWED_NETWORKS" in refused.json()["detail"]


def test_a_machine_that_is_no_node(fleet: TestClient, server: Sshd) -> None:
    assert run(fleet, "true").status_code == 200
    place, old = f"127.0.0.1:{server.port}", server.fingerprint
    same = fleet.post(f"/api/nodes/{place}/accept-host-key", json={"fingerprint": old})
    assert same.json() == {"node_id": place, "host": "127.0.0.1", "fingerprint": old}
    assert fleet.post("/api/nodes/127.0.0.44/accept-host-key", json={"fingerprint": old}).status_code == 404


def test_a_node_that_is_forgotten_may_come_back(fleet: TestClient, server: Sshd) -> None:
    assert run(fleet, "true").status_code == 200
    credential = fleet.get("/api/vault").json()[0]["id"]
    assert fleet.delete("/api/nodes/n1").status_code == 204
    server.new_host_key()
    body = {"id": "n1", "ip": "127.0.0.1", "ssh_port": server.port, "credential_id": credential}
    fleet.post("/api/nodes", json=body).raise_for_status()
    assert run(fleet, "echo anew").json()["stdout"] == "anew\n"


def test_the_password_is_nowhere(fleet: TestClient, settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """Not with us, and not on the node: command lines and environments of every process there, as root sees them."""
    seen = run(fleet, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'", become=True).json()["stdout"]
    assert "FLEET_RUN=" in seen, "it has looked"
    fleet.post("/api/vault", json={"name": "bad", "username": USER, "password": PASSWORD + "x"}).raise_for_status()
    fleet.patch("/api/nodes/n1", json={"credential_id": "bad"}).raise_for_status()
    refused = run(fleet, "true")
    assert refused.status_code == 409
    told = [seen, refused.text, fleet.get("/api/audit").text, fleet.get("/api/nodes/n1").text, *capfd.readouterr()]
    kept = [path.read_bytes() for path in settings.home.rglob("*") if path.is_file()]
    for each in (PASSWORD, json.dumps(PASSWORD)[1:-1], shlex.quote(PASSWORD)):
        assert all(each not in text for text in told)
        assert all(each.encode() not in content for content in kept)
