from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import Any

import pytest

from gpu_inference.engine import wire


def pair_with(data: bytes) -> socket.socket:
    ours, theirs = socket.socketpair()

    def send() -> None:
        with theirs:
            theirs.sendall(data)

    threading.Thread(target=send, daemon=True).start()
    return ours


def test_frames_come_back_whole() -> None:
    blob = bytes(range(256)) * 4000
    with pair_with(wire.encode({"type": "result", "text": "☃\ud83d\x00"}, blob) + wire.encode({"type": "next"})) as sock:
        first, second, end = wire.receive(sock), wire.receive(sock), wire.receive(sock)
    assert first == wire.Frame({"type": "result", "text": "☃\ud83d\x00"}, blob)
    assert second is not None
    assert second.type == "next"
    assert end is None


async def test_streams_read_the_same() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(wire.encode({"type": "a"}, b"12") + wire.encode({"type": "b"})[:-1])
    reader.feed_eof()
    assert await wire.read(reader) == wire.Frame({"type": "a"}, b"12")
    assert await wire.read(reader) is None


@pytest.mark.parametrize(
    "data",
    [struct.pack(">II", 2**31, 0), struct.pack(">II", 2, 2**31), struct.pack(">II", 2, 0) + b"[]", struct.pack(">II", 3, 0) + b"\xff{}"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pair_with(data) as sock, pytest.raises(wire.WireError):
        wire.receive(sock)


@pytest.mark.parametrize("value", [object(), b"x", "x" * (wire.MAX_JSON + 1)])
def test_what_cannot_be_sent_is_refused(value: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.encode({"value": value})
