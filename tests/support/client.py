"""A client of an application in this process, on loopback."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient


class Client(TestClient):
    """Starlette's, but its WebSockets go to the same address as all else."""

    def websocket_connect(self, url: str, *more: Any, **named: Any) -> Any:
        base = str(self.base_url).rstrip("/").replace("http", "ws", 1)
        return super().websocket_connect(base + url, *more, **named)


def client_of(app: FastAPI, url: str = "http://127.0.0.1:8765", peer: str = "127.0.0.1", **more: Any) -> Client:
    """Return a client that calls ``app`` at ``url``, coming from the address ``peer``."""
    return Client(app, base_url=url, client=(peer, 50_000), **more)
