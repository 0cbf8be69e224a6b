"""Gives whole files of the cache to neighbours: by SHA-256, for a ticket of the control plane, over plain HTTP.

What they get they verify by the checksum that the control plane told them, so that nothing false can come of it.
"""

from __future__ import annotations

import hmac
import io
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, List, Optional, Tuple

from gpu_inference.agent import logs
from gpu_inference.agent.cache import ModelCache
from gpu_inference.protocol import ticket_of

AT_ONCE = 8
"""Files that are sent; the control plane sends two neighbours at once."""

CONNECTIONS = 16
"""Each has a thread; more are closed at once."""

HEAD_SECONDS, HEAD_BYTES = 5.0, 32 * 1024
"""So long the head of a request may take from when it is waited for, and so large it may be."""

SILENT_SECONDS = 20.0
"""So long a neighbour may take nothing of what is sent."""

_PATH = re.compile(r"/files/([0-9a-f]{64})\Z")
_RANGE = re.compile(r"bytes=(\d{1,16})-\Z")


class _Heads(io.RawIOBase):
    """What a neighbour sends, which is nothing but heads: within the limits, of which :meth:`begin` grants new ones."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self.begin()

    def begin(self) -> None:
        """The head of a request begins."""
        self._due, self._left = time.monotonic() + HEAD_SECONDS, HEAD_BYTES

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads what is there. Raises :class:`socket.timeout` where it is late; too large a head ends early."""
        seconds = self._due - time.monotonic()
        if seconds <= 0:
            raise socket.timeout("The head of the request is late.")
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(buffer, min(len(buffer), self._left)) if self._left else 0
        self._left -= count
        return count


class Share:
    """Listens on ``address`` until it is closed. ``port`` is the one that was taken."""

    def __init__(self, cache: ModelCache, address: Tuple[str, int]) -> None:
        self._cache = cache
        self._keys: List[str] = []
        self._free = threading.BoundedSemaphore(AT_ONCE)
        places = threading.BoundedSemaphore(CONNECTIONS)
        share = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "fleet-worker"
            sys_version = ""

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                """Nothing."""

            def setup(self) -> None:
                super().setup()
                self.rfile.close()
                self._heads = _Heads(self.connection)
                self.rfile = io.BufferedReader(self._heads)

            def handle_one_request(self) -> None:
                self._heads.begin()
                super().handle_one_request()

            def do_GET(self) -> None:
                self.connection.settimeout(SILENT_SECONDS)
                share._answer(self)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = CONNECTIONS
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

            def process_request(self, request: Any, client_address: Any) -> None:
                if not places.acquire(blocking=False):
                    self.shutdown_request(request)
                    return
                try:
                    super().process_request(request, client_address)
                except BaseException:
                    places.release()
                    raise

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                try:
                    super().process_request_thread(request, client_address)
                finally:
                    places.release()

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A neighbour that hangs up is no error."""

        self._server = Server(address, Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="share", daemon=True)
        self._thread.start()
        logs.info("Neighbours may fetch models here.", port=self.port)

    def close(self) -> None:
        """Stops to listen."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2.0)

    def use_key(self, key: str) -> None:
        """Takes a new key for tickets; the one before it stays good until the next."""
        if key and key not in self._keys[:1]:
            self._keys = [key, *self._keys[:1]]

    def _may(self, handler: BaseHTTPRequestHandler, sha256: str) -> bool:
        shown = (handler.headers.get("Authorization") or "").encode("utf-8", "replace")
        return any(hmac.compare_digest(shown, ("Bearer " + ticket_of(key, sha256)).encode("utf-8")) for key in list(self._keys))

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
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

    def _send(self, handler: BaseHTTPRequestHandler, path: Path) -> None:
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


def _refuse(handler: BaseHTTPRequestHandler, status: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", "0")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
