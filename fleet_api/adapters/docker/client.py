"""The docker library's client over one Unix socket: with a bound on each wait, and connections that can be cut off."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import docker
from docker.transport import UnixHTTPAdapter

CONNECT_SECONDS = 10
KEPT_CONNECTIONS = 2
"""Connections that stay open for the next call; through SSH each is a session on the node."""


class Client(docker.APIClient):
    """``seconds`` is how long the calling thread waits for an answer; None waits for ever."""

    def __init__(self, path: str, seconds: float | None) -> None:
        """Ask the engine for its version. Raises DockerException."""
        self._bound = threading.local()
        self.patience(seconds)
        self._opened: list[Any] = []
        super().__init__(f"unix://{path}", version="1.41", timeout=CONNECT_SECONDS, max_pool_size=KEPT_CONNECTIONS)
        self._custom_adapter = _Adapter(f"http+unix://{path}", self._opened)
        self.mount("http+docker://", self._custom_adapter)
        self._version = str(self.version(api_version=False)["ApiVersion"])

    def patience(self, seconds: float | None) -> None:
        """Set how long this thread waits."""
        self._bound.seconds = seconds

    def cut(self) -> None:
        """Break every open connection off, whatever waits on it; from any thread."""
        for connection in list(self._opened):
            sock = getattr(connection, "sock", None)
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        kwargs["timeout"] = getattr(self._bound, "seconds", CONNECT_SECONDS)
        return kwargs


class _Adapter(UnixHTTPAdapter):
    """Notes the connections that it opens."""

    def __init__(self, url: str, opened: list[Any]) -> None:
        super().__init__(url, CONNECT_SECONDS, max_pool_size=KEPT_CONNECTIONS)
        self._noted = opened

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        """requests: the pool of connections: one for all, where the library has one for each address that was ever asked for."""
        pool: Any = super().get_connection(self.socket_path, proxies)
        if not hasattr(pool, "noted"):
            make = pool._new_conn
            pool.noted = True

            def noted() -> Any:
                self._noted[:] = [each for each in self._noted if each.sock is not None]
                self._noted.append(connection := make())
                return connection

            pool._new_conn = noted
        return pool
