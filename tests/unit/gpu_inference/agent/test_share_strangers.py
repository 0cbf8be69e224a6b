"""Strangers at the port where neighbours fetch models: they cost little, and not for long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gpu_inference.agent.cache import ModelCache
from gpu_inference.agent.http import server as module
from gpu_inference.agent.http.server import CONNECTIONS
from gpu_inference.agent.share import Share
from gpu_inference.protocol import ticket_of

HEAD = b"GET /files/" + b"0" * 64 + b" HTTP/1.1\r\n"


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    found = Share(ModelCache(tmp_path, 100), ("127.0.0.1", 0))
    yield found
    found.close()


def call(share: Share) -> socket.socket:
    return socket.create_connection(("127.0.0.1", share.port), timeout=10)


def ended(connection: socket.socket) -> bool:
    """Whether the other side closes, with or without an answer, before our patience ends."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_strangers_get_no_more_than_so_many_threads(share: Share) -> None:
    before = threading.active_count()
    held = [call(share) for _ in range(CONNECTIONS)]
    end = time.monotonic() + 5
    while threading.active_count() < before + CONNECTIONS and time.monotonic() < end:
        time.sleep(0.01)
    begun = time.monotonic()
    for _ in range(20):
        with call(share) as more:
            assert ended(more)
    assert time.monotonic() - begun < 3, "they were closed at once"
    assert threading.active_count() == before + CONNECTIONS
    for each in held:
        each.close()
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert httpx.get(f"http://127.0.0.1:{share.port}/files/{'0' * 64}", trust_env=False).status_code == 403, "there is room again"


def test_a_head_that_comes_drop_by_drop_is_not_waited_for(share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.5)
    with call(share) as connection:
        begun = time.monotonic()
        try:
            connection.sendall(HEAD)
            while time.monotonic() - begun < 4:
                connection.sendall(b"a: b\r\n")
                time.sleep(0.1)
        except ConnectionError:
            assert time.monotonic() - begun < 2
            return
    pytest.fail("it was waited for")


def test_a_head_without_end_is_not_kept(share: Share) -> None:
    with call(share) as connection:
        connection.sendall(HEAD)
        with pytest.raises(ConnectionError):
            connection.sendall((b"a: " + b"b" * 1000 + b"\r\n") * 50_000)


def test_two_requests_go_over_one_connection(share: Share, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.8)
    name = "1" * 64
    (tmp_path / "files" / name).write_bytes(b"whole")
    share.use_key("k")
    with call(share) as connection:
        for _ in range(3):
            connection.sendall(f"GET /files/{name} HTTP/1.1\r\nAuthorization: Bearer {ticket_of('k', name)}\r\n\r\n".encode())
            answer = b""
            while not answer.endswith(b"whole"):
                chunk = connection.recv(4096)
                assert chunk, answer
                answer += chunk
            time.sleep(0.5)
