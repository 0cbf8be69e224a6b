"""A control plane and the nodes of its lab, asked by REST."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.lab import Node
from tests.support.manager import Manager


@dataclass
class Fleet:
    """A lab and its control plane, from one test of a file to the next."""

    manager: Manager
    nodes: list[Node]
    api: httpx.Client
    credential: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.api.get(path, params=params)
        assert answer.is_success, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 201, **params: Any) -> Any:
        answer = self.api.post(path, json=body, params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    def until(self, reached: Callable[[], Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := reached()):
            assert time.monotonic() < deadline, self.manager.log()[-1500:]
            time.sleep(0.3)
        return found

    def running(self, service: str) -> list[dict[str, Any]]:
        return [task for task in self.get(f"/api/swarm/services/{service}")["tasks"] if task["state"] == task["desired_state"] == "running"]
