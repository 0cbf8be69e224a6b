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

    loaded, spare, parked, backend, infos = "a", (), (), None, list

    def close(self, what: str, park: bool = False) -> None:
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
        told = wire.receive(here)
        while told is not None and told.type == "progress":
            told = wire.receive(here)
        assert told is not None
        assert (told.type, told.message["parked"]) == ("loaded", []), "the agent knows at once"


def test_what_an_idle_engine_was_told_is_not_done_again_at_work() -> None:
    catalogue: Any = Catalogue()
    here, there = socket.socketpair()
    with here, there:
        child = Child(there, catalogue)
        unload = wire.Frame({"type": "unload", "job": "", "what": wire.PARKED}, b"")
        child.take(unload)
        child._serve(unload)
        child._part("1", parse_request({"prompt": "x"})).progress(1, 4, "denoising")
        assert catalogue.closed == [wire.PARKED]
