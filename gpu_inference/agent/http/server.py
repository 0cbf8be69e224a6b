"""A small HTTP/1.1 server on threads, whose callers cannot hold it up: few at once, and each of them within limits of time and size."""

from __future__ import annotations

import io
import json
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, Optional, Tuple

CONNECTIONS = 16
"""Each has a thread; more are closed at once."""

HEAD_SECONDS, HEAD_BYTES = 5.0, 32 * 1024
"""So long the head of a request may take from when it is waited for, and so large it may be."""

BODY_SECONDS = 10.0
"""So long a body may take."""

SILENT_SECONDS = 20.0
"""So long a caller may take nothing of what is sent."""

_PIECE = 64 * 1024
Address = Tuple[str, int]


class _Received(io.RawIOBase):
    """What a caller sends, within limits, of which :meth:`grant` gives new ones."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self.grant(HEAD_SECONDS, HEAD_BYTES)

    def grant(self, seconds: float, count: int) -> None:
        """From now on so much may come within so long."""
        self._due, self._left = time.monotonic() + seconds, count

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads what is there. Raises :class:`socket.timeout` where it is late or too large.

        A head that is cut off must not be taken for a whole one: what says who calls may be in the rest.
        """
        seconds = self._due - time.monotonic()
        if seconds <= 0 or not self._left:
            raise socket.timeout("The request is late, or too large.")
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count


class Handler(BaseHTTPRequestHandler):
    """One connection; a subclass has ``do_GET`` and its like. ``answered`` says whether an answer was begun."""

    protocol_version = "HTTP/1.1"
    server_version = "fleet-worker"
    sys_version = ""

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Nothing."""

    def setup(self) -> None:
        """Puts the limits between the connection and who reads it."""
        super().setup()
        self.rfile.close()
        self._received = _Received(self.connection)
        self.rfile = io.BufferedReader(self._received)

    def handle_one_request(self) -> None:
        """Each request has a head of its own."""
        self._received.grant(HEAD_SECONDS, HEAD_BYTES)
        self.answered = False
        super().handle_one_request()

    def body(self, count: int) -> Optional[bytes]:
        """The ``count`` bytes of the body; None where they do not come in time."""
        self._received.grant(BODY_SECONDS, count)
        try:
            found = self.rfile.read(count)
        except OSError:
            return None
        return found if len(found) == count else None

    def answer(self, status: int, content: bytes, kind: str, headers: Optional[Dict[str, str]] = None) -> None:
        """Sends a whole answer."""
        self.connection.settimeout(SILENT_SECONDS)
        self.answered = True
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            for begin in range(0, len(content), _PIECE):  # each has its own time
                self.wfile.write(content[begin : begin + _PIECE])

    def answer_json(self, status: int, content: Any, headers: Optional[Dict[str, str]] = None) -> None:
        """Sends a whole answer as JSON."""
        self.answer(status, json.dumps(content).encode("utf-8") + b"\n", "application/json", headers)

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """What the base class refuses by itself, such as a head that is none: as JSON, and without its page."""
        self.close_connection = True
        self.answer_json(code, {"detail": f"The request is not understood: {str(message or code)[:200]}."})


class Server(ThreadingHTTPServer):
    """Listens on ``address``. ``port`` is the one that was taken; :meth:`run` serves until :meth:`stop`.

    Raises :class:`OSError` where the address cannot be had.
    """

    daemon_threads = True
    request_queue_size = CONNECTIONS

    def __init__(self, address: Address, handler: Callable[..., Handler], name: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, handler)
        self.port: int = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.2,), name=name, daemon=True)

    def server_bind(self) -> None:
        """Without the look at the name service, which may take long and is of no use here."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def run(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stops to listen."""
        self.shutdown()
        self.server_close()
        self._thread.join(2.0)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a caller a thread, while there is one."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers a caller."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no error."""
