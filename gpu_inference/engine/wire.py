"""Frames between an agent and its engine child: a JSON object and, where needed, raw bytes.

A frame is two unsigned 32-bit big-endian lengths (of the JSON text and of the bytes), the JSON text in UTF-8, the bytes.
This module imports nothing of the engine, so that both ends may use it.

Agent to engine: ``render`` (job, payload, and ``companions``, each with job and payload, to be made together with it), ``cancel`` (job),
``load`` (a model, or the default one), ``unload`` (what: :data:`ALL`, :data:`SPARES` or :data:`PARKED`; ``park``: whether what leaves a GPU
may wait in the machine's memory), ``rescan`` (the library), ``stop``.
Engine to agent: ``hello``, ``phase``, ``loaded`` (what is loaded has changed), ``ready`` (loaded as told), ``library`` (after a rescan),
``progress``, ``preview`` (with a JPEG), ``result`` (with the PNG as bytes), ``error``; of companions each has its own.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

HEADER = struct.Struct(">II")
MAX_JSON = 4 * 1024 * 1024
MAX_BLOB = 256 * 1024 * 1024

ALL, SPARES, PARKED = "all", "spares", "parked"


class WireError(Exception):
    """The peer sent something that is not a frame."""


class Frame(NamedTuple):
    """One message; ``blob`` is empty for most types."""

    message: Dict[str, Any]
    blob: bytes

    @property
    def type(self) -> str:
        """The frame's type, such as ``progress``."""
        return str(self.message.get("type", ""))


def encode(message: Dict[str, Any], blob: bytes = b"") -> bytes:
    """A frame's bytes. Raises :class:`WireError` where a part is too large or no JSON."""
    try:
        text = json.dumps(message, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError) as error:
        raise WireError("A message holds a value that JSON cannot.") from error
    if len(text) > MAX_JSON or len(blob) > MAX_BLOB:
        raise WireError(f"A frame of {len(text)} + {len(blob)} bytes is larger than {MAX_JSON} + {MAX_BLOB}.")
    return HEADER.pack(len(text), len(blob)) + text + blob


def orders(message: Dict[str, Any]) -> List[Tuple[str, Dict[str, Any]]]:
    """The jobs and payloads of a ``render``, its companions after it."""
    companions = message.get("companions")
    each = [message, *(companions if isinstance(companions, list) else [])]
    return [(str(one.get("job", "")), one.get("payload") or {}) for one in each]


def _lengths(header: bytes) -> Tuple[int, int]:
    text_length, blob_length = HEADER.unpack(header)
    if text_length > MAX_JSON or blob_length > MAX_BLOB:
        raise WireError(f"A frame announces {text_length} + {blob_length} bytes, more than allowed.")
    return text_length, blob_length


def _decode(text: bytes, blob: bytes) -> Frame:
    try:
        message = json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise WireError("A frame does not hold JSON.") from error
    if not isinstance(message, dict):
        raise WireError("A frame does not hold a JSON object.")
    return Frame(message, blob)


def _receive_exactly(sock: socket.socket, count: int) -> Optional[bytes]:
    parts = bytearray()
    while len(parts) < count:
        part = sock.recv(min(count - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def receive(sock: socket.socket) -> Optional[Frame]:
    """The next frame from a blocking socket, or None at its end. Raises :class:`WireError` for anything else."""
    header = _receive_exactly(sock, HEADER.size)
    if header is None:
        return None
    text_length, blob_length = _lengths(header)
    body = _receive_exactly(sock, text_length + blob_length)
    return None if body is None else _decode(body[:text_length], body[text_length:])


async def read(reader: asyncio.StreamReader) -> Optional[Frame]:
    """As :func:`receive`, from a stream."""
    try:
        text_length, blob_length = _lengths(await reader.readexactly(HEADER.size))
        text = await reader.readexactly(text_length)
        blob = await reader.readexactly(blob_length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return _decode(text, blob)
