"""Gives whole files of the cache to neighbours: by SHA-256, for a ticket of the control plane, over plain HTTP.

What they get they verify by the checksum that the control plane told them, so that nothing false can come of it.
"""

from __future__ import annotations

import hmac
import re
import threading
from pathlib import Path
from typing import List, Optional

from gpu_inference.agent import logs
from gpu_inference.agent.cache import ModelCache
from gpu_inference.agent.http.server import SILENT_SECONDS, Address, Handler, Server
from gpu_inference.protocol import ticket_of

AT_ONCE = 8
"""Files that are sent; the control plane sends two neighbours at once."""

_PATH = re.compile(r"/files/([0-9a-f]{64})\Z")
_RANGE = re.compile(r"bytes=(\d{1,16})-\Z")


class Share:
    """Listens on ``address`` until it is closed. ``port`` is the one that was taken."""

    def __init__(self, cache: ModelCache, address: Address) -> None:
        self._cache = cache
        self._keys: List[str] = []
        self._free = threading.BoundedSemaphore(AT_ONCE)
        share = self

        class Neighbour(Handler):
            def do_GET(self) -> None:  # noqa: N802
                self.connection.settimeout(SILENT_SECONDS)
                share._answer(self)

        self._server = Server(address, Neighbour, "share")
        self.port = self._server.port
        self._server.run()
        logs.info("Neighbours may fetch models here.", port=self.port)

    def close(self) -> None:
        """Stops to listen."""
        self._server.stop()

    def use_key(self, key: str) -> None:
        """Takes a new key for tickets; the one before it stays good until the next."""
        if key and key not in self._keys[:1]:
            self._keys = [key, *self._keys[:1]]

    def _may(self, handler: Handler, sha256: str) -> bool:
        shown = (handler.headers.get("Authorization") or "").encode("utf-8", "replace")
        return any(hmac.compare_digest(shown, ("Bearer " + ticket_of(key, sha256)).encode("utf-8")) for key in list(self._keys))

    def _answer(self, handler: Handler) -> None:
        found = _PATH.match(handler.path)
        if found is None or not self._may(handler, found.group(1)):
            _refuse(handler, 403)
            return
        if not self._free.acquire(blocking=False):
            _refuse(handler, 503)
            return
        try:
            self._send(handler, self._cache.path(found.group(1)))
        finally:
            self._free.release()

    def _send(self, handler: Handler, path: Path) -> None:
        wanted: Optional[str] = handler.headers.get("Range")
        try:
            file = path.open("rb")
        except OSError:
            _refuse(handler, 404)
            return
        with file:
            size = path.stat().st_size
            asked = _RANGE.match(wanted) if wanted else None
            start = int(asked.group(1)) if asked else 0
            if start and start >= size:
                _refuse(handler, 416)
                return
            handler.send_response(206 if start else 200)
            handler.send_header("Content-Type", "application/octet-stream")
            handler.send_header("Content-Length", str(size - start))
            if start:
                handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            handler.end_headers()
            handler.wfile.flush()
            if size > start:
                handler.connection.sendfile(file, start)


def _refuse(handler: Handler, status: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", "0")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
