"""The picture that proves a node is asked of its own agent, and made beside it only where that has no time or no door."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import agent_door
from ansible_collections.fleet.commander.plugins.modules import fleet_render_check

PNG = b"\x89PNG\r\n"
PAYLOAD: dict[str, object] = {"prompt": "red", "width": 64, "height": 64, "steps": 1}
Answer = tuple[int, str, bytes]


def said(status: int, detail: str) -> Answer:
    return status, "application/json", json.dumps({"detail": detail}).encode()


class Agent:
    """Answers in turn, the last answer time and again; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[Any] = []
        self.loaded: str | None = None
        agent = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                agent.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                status, kind, content = agent.answers.pop(0) if len(agent.answers) > 1 else agent.answers[0]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                content = json.dumps({"models": [], "loaded": agent.loaded} if self.path == "/models" else {}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setattr(agent_door, "WAIT_SECONDS", 0.05)
    made = Agent()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_engine_s_picture_is_taken(agent: Agent) -> None:
    agent.answers = [said(503, "The node was busy for 60 s."), (200, "image/png", PNG)]
    assert agent_door.picture(agent.address, PAYLOAD, 30) == PNG
    assert agent.asked == [("/generate", PAYLOAD)] * 2
    agent.loaded = "pastel"
    assert agent_door.picture(agent.address, PAYLOAD, 30) == PNG
    assert agent.asked[-1] == ("/generate", {**PAYLOAD, "model": "pastel"}), "what is loaded stays so"


@pytest.mark.parametrize("status", [422, 502, 504])
def test_what_the_engine_says_is_why_there_is_none(agent: Agent, status: int) -> None:
    agent.answers = [said(status, "The device has no memory left.")]
    with pytest.raises(agent_door.NotMade, match="The device has no memory left"):
        agent_door.picture(agent.address, PAYLOAD, 30)


@pytest.mark.parametrize(
    "answer",
    [
        said(401, "This wants a key."),
        said(404, "There is no such page."),
        (200, "text/html", b"<p>"),
        (503, "text/html", b"<p>"),
        (502, "x/y", b"[]"),
    ],
)
def test_whoever_else_answers_there_is_left_alone(agent: Agent, answer: Answer) -> None:
    agent.answers = [answer]
    assert agent_door.picture(agent.address, PAYLOAD, 30) is None
    assert len(agent.asked) == 1


def test_one_that_is_busy_all_the_time_is_not_waited_for_longer_than_half_of_it(agent: Agent) -> None:
    agent.answers = [said(503, "The node was busy for 60 s.")]
    assert agent_door.picture(agent.address, PAYLOAD, 0.5) is None
    assert 1 < len(agent.asked) <= 6


def test_one_that_does_not_answer_in_time_is_not_the_engine_s_fault(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = agent_door._asked

    def late(port: int, method: str, *given: Any) -> tuple[int, str, bytes]:
        if method == "POST":
            raise socket.timeout("timed out")  # noqa: UP041 - before Python 3.10 it is no TimeoutError
        return asked(port, method, *given)

    monkeypatch.setattr(agent_door, "_asked", late)
    assert agent_door.picture(agent.address, PAYLOAD, 1) is None


@pytest.mark.parametrize("address", ["off", "0.0.0.0:8080", "10.0.0.1:8080", "127.0.0.1:", "[::1]:8080"])
def test_nobody_is_asked_elsewhere(address: str) -> None:
    assert agent_door.picture(address, PAYLOAD, 30) is None


def test_where_nobody_listens_there_is_none(agent: Agent) -> None:
    address = agent.address
    agent.server.server_close()
    agent.server.socket.close()
    assert agent_door.picture(address, PAYLOAD, 2) is None


def test_the_check_says_who_made_it(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_render_check, "settings", lambda _paths: {"FLEET_AGENT_HTTP": agent.address})
    monkeypatch.setattr(fleet_render_check, "size_of", lambda content: (64, 64) if content == PNG else (32, 32))
    monkeypatch.setattr(fleet_render_check, "_made", lambda _given: b"other")
    given = {"prompt": "red", "size": "64x64", "steps": 1, "seconds": 5, "settings": [], "container": ""}
    monkeypatch.setattr(fleet_render_check, "_settings_in", lambda container: {"FLEET_AGENT_HTTP": agent.address} if container else {})
    agent.answers = [(200, "image/png", PNG)]
    assert fleet_render_check.rendered(given)["by_agent"] is True
    assert agent.asked == [("/generate", PAYLOAD)]
    monkeypatch.setattr(fleet_render_check, "settings", lambda _paths: {"FLEET_AGENT_HTTP": "off"})
    assert fleet_render_check.rendered({**given, "container": "1f"})["by_agent"] is True, "a container has settings of its own"
    monkeypatch.setattr(fleet_render_check, "settings", lambda _paths: {"FLEET_AGENT_HTTP": agent.address})
    agent.answers = [said(401, "This wants a key.")]
    assert fleet_render_check.rendered({**given, "size": "32x32"})["by_agent"] is False
    agent.answers = [said(502, "The model 'x' has no graphs for TensorRT.")]
    assert fleet_render_check.rendered({**given, "size": "32x32"})["unbuilt"] == "The model 'x' has no graphs for TensorRT."
