"""What one connection may cost before it has said anything: a size for the head of a request, a time for head and body, a number
of connections for one address. uvicorn has none of these with httptools.

A connection that is over a limit is closed; a head that is too large is answered 431 first. A request that is complete has all the
time it needs: long polls and WebSockets are not touched.
"""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger()

HEAD_LIMIT = 64 * 1024  # bytes
HEAD_SECONDS = 10.0
BODY_SECONDS = 15.0
"""How long nothing may come of a body that was begun."""

CONNECTIONS_PER_ADDRESS = 2_000
"""Above what 300 agents behind one address need, at three connections each."""

TOO_LARGE = json.dumps({"detail": f"The head of the request is larger than the {HEAD_LIMIT:,} bytes that are taken."}).encode()
ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n"
    + f"Content-Length: {len(TOO_LARGE)}\r\n\r\n".encode()
    + TOO_LARGE
)

_per_address: Counter[str] = Counter()


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's protocol with the limits of this module."""

    _address = ""
    _head_bytes = 0
    _in_head = True
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Count the connection; close it if its address has too many."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if isinstance(peer, tuple) else ""
        _per_address[self._address] += 1
        if _per_address[self._address] > CONNECTIONS_PER_ADDRESS:
            transport.abort()
        else:
            self._give(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; its head has come."""
        self._leave()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT and len(data) < self._head_bytes:
                self._refuse()
                return
        elif self._deadline is not None:
            self._give(BODY_SECONDS)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_LIMIT:
            self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._give(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """The head is there; what follows is a body."""
        self._in_head, self._head_bytes = False, 0
        self._give(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is there; from now on the time is ours."""
        self._in_head = True
        self._stop()
        super().on_message_complete()

    def _give(self, seconds: float) -> None:
        self._stop()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)
            self.transport.close()

    def _leave(self) -> None:
        self._stop()
        if self._address:
            _per_address[self._address] -= 1
            if _per_address[self._address] <= 0:
                del _per_address[self._address]
            self._address = ""


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows it; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
