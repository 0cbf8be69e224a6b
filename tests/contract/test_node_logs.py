"""``/ws/logs/{node_id}``: a node's journal, here a script's, over SSH."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fleet_api.nodes import journal, logs
from tests.support.sshd import OTHER, PASSWORD, USER, Sshd, sshd


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd() as running:
        yield running


def entry(message: Any, priority: str = "6", unit: str = "docker.service") -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": "1800000000000000", "PRIORITY": priority, "MESSAGE": message, "_SYSTEMD_UNIT": unit})


@pytest.fixture
def prints(monkeypatch: pytest.MonkeyPatch, server: Sshd) -> Any:
    def script(text: str) -> Path:
        path = server.folder / "journal"
        path.write_text(text)
        monkeypatch.setattr(logs, "command", lambda _: f"exec sh {path}")
        return path

    return script


def node(api: TestClient, server: Sshd, username: str = USER, password: str = PASSWORD) -> None:
    made = api.post("/api/vault", json={"name": "lab", "username": username, "password": password}).json()
    body = {"id": "n1", "ip": server.address, "ssh_port": server.port, "credential_id": made["id"]}
    assert api.post("/api/nodes", json=body).status_code == 201


def test_lines_as_they_come(api: TestClient, server: Sshd, prints: Any) -> None:
    again = server.folder / "again"
    again.unlink(missing_ok=True)
    prints(
        f"cat <<'X'\n{entry('grün')}\nno entry\n{entry([104, 105, 255], '3', 'fleet-agent.service')}\nX\n"
        f"while ! [ -e {again} ]; do sleep 0.02; done; echo '{entry('later', '4')}'; id -un >&2; sleep 60"
    )
    node(api, server)
    with api.websocket_connect("/ws/logs/n1") as socket:
        first, second = socket.receive_json(), socket.receive_json()
        assert first == {
            "type": "log", "node_id": "n1", "timestamp": "2027-01-15T08:00:00.000Z", "level": "info", "message": "grün", "source": "docker",
        }  # fmt: skip
        assert (second["level"], second["message"], second["source"]) == ("error", "hi\ufffd", "fleet-agent")
        with api.websocket_connect("/ws/logs/n1") as other:
            assert [other.receive_json()["message"] for _ in range(2)] == ["grün", "hi\ufffd"], "who comes later gets the last lines"
            again.touch()
            assert (socket.receive_json()["message"], other.receive_json()["level"]) == ("later", "warning")
            assert len(api.app.state.fleet.node_logs._followed) == 1  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while api.app.state.fleet.node_logs._followed:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ten_thousand_lines_at_once(api: TestClient, server: Sshd, prints: Any) -> None:
    many = server.folder / "many"
    many.write_text("".join(entry(f"line {number}") + "\n" for number in range(10_000)))
    prints(f"cat {many}; sleep 60")
    node(api, server)
    with api.websocket_connect("/ws/logs/n1") as socket:
        assert [socket.receive_json()["message"] for _ in range(10_000)] == [f"line {number}" for number in range(10_000)]


def test_one_who_reads_nothing_is_closed(api: TestClient, server: Sshd, prints: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PATIENCE", 0.1)
    many = server.folder / "many"
    many.write_text("".join(entry(f"line {number}") + "\n" for number in range(3_000)))
    prints(f"cat {many}; sleep 60")
    node(api, server)
    fleet = api.app.state.fleet  # type: ignore[attr-defined]

    async def never_read() -> tuple[int, bool]:
        async with fleet.node_logs.watched("n1") as watcher:
            for _ in range(300):
                await asyncio.sleep(0.02)
                if watcher.overflowed:
                    break
            return watcher.waiting, watcher.overflowed

    assert api.portal.call(never_read) == (1_001, True)  # type: ignore[union-attr]


def test_lines_of_operations(api: TestClient, server: Sshd, prints: Any) -> None:
    prints("sleep 60")
    node(api, server)
    bus = api.app.state.fleet.bus  # type: ignore[attr-defined]
    with api.websocket_connect("/ws/logs/n1") as socket:
        before = bus.subscribers
        deadline = time.monotonic() + 5
        while not bus.subscribers:
            assert time.monotonic() < deadline, before
            time.sleep(0.01)
        for node_id in ("other", "n1"):
            line = {"node_id": node_id, "timestamp": "t", "level": "info", "message": f"of {node_id}", "source": "operation"}
            api.portal.call(bus.publish, "log", line)  # type: ignore[union-attr]
        assert socket.receive_json() == {"type": "log", **line}
        assert api.delete("/api/nodes/n1").status_code == 204
        last = socket.receive_json()
        assert (last["level"], last["message"]) == ("error", "Node n1 is gone: it was removed from the fleet.")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


@pytest.mark.parametrize(
    ("username", "password", "sentence"),
    [(USER, "wrong", "refuses user 'jetson' with credential 'lab'"), (OTHER, PASSWORD, "The command on n1 ended with 3: no journal here")],
)
def test_why_it_ends(api: TestClient, server: Sshd, prints: Any, username: str, password: str, sentence: str) -> None:
    path = prints("echo 'no journal here' >&2; exit 3")
    path.chmod(0o644)
    node(api, server, username, password)
    with api.websocket_connect("/ws/logs/n1") as socket:
        last = socket.receive_json()
        assert last["level"] == "error"
        assert sentence in last["message"]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_nodes_without_a_log(api: TestClient) -> None:
    api.post("/api/nodes", json={"id": "bare", "ip": "127.0.0.8"}).raise_for_status()
    with api.websocket_connect("/ws/logs/bare") as socket:
        first = socket.receive_json()
        assert (first["level"], first["message"]) == (
            "warning", "Node 'bare' has no credential for SSH; set credential_id with PATCH /api/nodes/bare.",
        )  # fmt: skip
    with api.websocket_connect("/ws/logs/nope") as socket:
        assert socket.receive_json()["message"].startswith("There is no node 'nope'")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 4404


def test_what_is_no_entry() -> None:
    assert journal.event("n", b"{}") is None
    assert journal.event("n", b"[1]") is None
    assert journal.event("n", b"\xff") is None
    for priority in (None, "x", "99", "-1"):
        found = journal.event("n", json.dumps({"__REALTIME_TIMESTAMP": "0", "PRIORITY": priority}).encode())
        assert found is not None
        assert found["message"] == ""
    assert "-n 7 " in journal.command(7)
