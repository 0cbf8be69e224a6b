"""Output of containers as the engine sends it: frames of standard output and error, told apart by eight bytes before each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

HEADER = 8
PIECE = 4096
LARGEST = 16 * 1024 * 1024  # bytes of a frame; a larger one is no frame


def frames(raw: Any) -> Iterator[bytes]:
    """Yield the payload of each frame of a response; ends at its end, also amid a frame."""
    while True:
        header = _exactly(raw, HEADER)
        if len(header) < HEADER:
            return
        size = int.from_bytes(header[4:], "big")
        if header[0] > 3 or header[1:4] != b"\0\0\0" or size > LARGEST:
            yield header + _exactly(raw, PIECE)  # a stream without frames after all
            continue
        if header[0] == 3:  # what the engine itself has to say, such as of a node that it cannot ask
            _exactly(raw, size)
            continue
        yield _exactly(raw, size)


def lines(response: Any, tty: bool) -> Iterator[bytes]:
    """Yield what a response of requests carries, frame by frame; a terminal's output has no frames."""
    if tty:
        while piece := _some(response.raw):
            yield piece
        return
    yield from frames(response.raw)


def _exactly(raw: Any, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = raw.read(size - len(found))
        if not piece:
            break
        found += piece
    return found


def _some(raw: Any) -> bytes:
    return bytes(raw.read1(PIECE) if hasattr(raw, "read1") else raw.read(PIECE))
