"""A wire that can be cut: a TCP proxy on loopback that stops forwarding, both ways, and says nothing."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator


class Wire:
    """Forwards connections to ``port`` while ``whole``; what is sent meanwhile waits, as in a network that lost its route."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._whole = threading.Event()
        self._whole.set()
        self._closing = threading.Event()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def serve(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._listener], [], [], 0.1)[0]:
                continue
            near, _ = self._listener.accept()
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            self._wait()
            with socket.create_connection(("127.0.0.1", self._to)) as far:
                other = {near: far, far: near}
                while not self._closing.is_set():
                    for sock in select.select([near, far], [], [], 0.1)[0]:
                        self._wait()
                        data = sock.recv(1 << 16)
                        if not data:
                            return
                        other[sock].sendall(data)

    def _wait(self) -> None:
        while not self._whole.wait(0.1) and not self._closing.is_set():
            pass

    def close(self) -> None:
        self._closing.set()
        self._listener.close()


@contextlib.contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire to a port of this machine while the context is open."""
    wire = Wire(port)
    thread = threading.Thread(target=wire.serve, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        wire._closing.set()
        thread.join(5)
        wire.close()
