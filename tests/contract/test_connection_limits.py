"""What a connection may cost that has said nothing yet, on a real socket."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet_api.kit import http_limits
from fleet_api.settings import Settings
from tests.support.live import Live, live


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(Settings(home=tmp_path_factory.mktemp("limits"), port=0)) as found:
        yield found


def connect(api: Live) -> socket.socket:
    host, port = api.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65_536):
            found += chunk
    return found


@pytest.mark.parametrize("line", [b"X-A: " + b"x" * 1_000 + b"\r\n", b"Cookie: " + b"x" * 1_000_000], ids=["many lines", "one line"])
def test_a_head_without_end_is_431(api: Live, line: bytes) -> None:
    with connect(api) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(200):
                connection.sendall(line)
        answer = read_all(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 "), answer[:200]


def test_a_head_of_usual_size_passes(api: Live) -> None:
    with connect(api) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"x" * 60_000 + b"\r\nConnection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_many_requests_on_one_connection_add_up_to_nothing(api: Live) -> None:
    with connect(api) as connection:
        for _ in range(100):
            connection.sendall(b"GET /api/fleet/capabilities HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"x" * 2_000 + b"\r\n\r\n")
            answer = b""
            while not answer.endswith(b"]}"):
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /health HTTP/1.1\r\nHost:", b"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"],
    ids=["silence", "half a head", "half a body"],
)
def test_who_says_nothing_more_is_let_go(api: Live, begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(http_limits, "BODY_SECONDS", 0.3)
    with connect(api) as connection:
        connection.sendall(begun)
        started = time.monotonic()
        read_all(connection)
        assert time.monotonic() - started < 5


def test_a_slow_body_that_comes_is_taken(api: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "BODY_SECONDS", 1.0)
    body = b'{"api_key": "x"}'
    with connect(api) as connection:
        head = (
            f"POST /api/fleet/connect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode())
        for position in range(len(body)):
            connection.sendall(body[position : position + 1])
            time.sleep(0.1)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_one_address_has_only_so_many_connections(api: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(http_limits, "CONNECTIONS_PER_ADDRESS", 5)
    held = [connect(api) for _ in range(8)]
    time.sleep(0.3)
    refused = 0
    for connection in held:
        try:
            connection.sendall(b"GET /api/fleet/capabilities HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            refused += not connection.recv(65_536)
        except OSError:
            refused += 1
        finally:
            connection.close()
    assert refused == 3
    time.sleep(0.3)
    with connect(api) as connection:
        connection.sendall(b"GET /api/fleet/capabilities HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_who_sends_too_large_a_body_hears_so(api: Live) -> None:
    """Most clients read no answer before they have sent it all; a connection that was closed meanwhile would be all they see."""
    with httpx.Client(base_url=api.url, trust_env=False) as http:
        for size in (1_600_000, 20_000_000):
            for _ in range(5):
                answer = http.post("/api/vision/generate", content=b"x" * size)
                assert answer.status_code == 413
        assert http.get("/health").status_code == 200, "over the same connection"
