"""An engine at work lets parked models go between two steps, when its agent says so."""

from __future__ import annotations

import socket
from typing import Any

from gpu_inference.engine import wire
from gpu_inference.engine.child import Child
from gpu_inference.engine.request import parse_request


class Catalogue:
    """Notes what is let go."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def close(self, what: str) -> None:
        self.closed.append(what)


def test_it_is_done_at_the_next_step_and_once() -> None:
    catalogue: Any = Catalogue()
    here, there = socket.socketpair()
    with here, there:
        child = Child(there, catalogue)
        step = child._part("1", parse_request({"prompt": "x"})).progress
        step(1, 4, "denoising")
        child.take(wire.Frame({"type": "unload", "job": "", "what": wire.SPARES}, b""))
        step(2, 4, "denoising")
        assert catalogue.closed == []
        child.take(wire.Frame({"type": "unload", "job": "", "what": wire.PARKED}, b""))
        for number in (3, 4):
            step(number, 4, "denoising")
        assert catalogue.closed == [wire.PARKED]
