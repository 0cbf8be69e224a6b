"""Which memory is watched, and what is let go when it is short."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gpu_inference.agent.memory_watch import SHORT_SECONDS, MemoryWatch
from gpu_inference.memory import Room

FREE, SHORT = Room(16_000, 9_000), Room(16_000, 100)


class Engine:
    """An engine that has a model loaded, and notes what it is told to let go."""

    pid, loaded_model = 2**22 + 1, "a"

    def __init__(self, device: str, spare: list[str]) -> None:
        self.loaded_device, self.spare_models = device, spare
        self.told: list[str] = []

    def unload(self, spares_only: bool) -> None:
        self.told.append("spares" if spares_only else "all")
        self.spare_models = []


def told(device: str, spare: list[str], room: Room, gpu: Room | None, taken: bool = False) -> list[str]:
    engine: Any = Engine(device, spare)
    turn: Any = SimpleNamespace(taken=taken)
    watch = MemoryWatch(engine, turn, None, lambda: room, lambda: gpu)
    for number in range(4):
        watch.look(number * SHORT_SECONDS)
    return list(engine.told)


@pytest.mark.parametrize(
    ("device", "spare", "room", "gpu", "expected"),
    [
        ("cuda", ["b"], FREE, SHORT, ["spares", "all"]),
        ("cuda", [], FREE, SHORT, ["spares", "all"]),  # what is kept for speed goes first
        ("cuda", [], FREE, FREE, []),
        ("cuda", [], FREE, None, []),
        ("cuda", [], SHORT, None, ["spares", "all"]),
        ("cpu", [], FREE, SHORT, []),
        ("cpu", [], SHORT, SHORT, ["all", "all"]),
        ("cpu", ["b"], SHORT, None, ["spares", "all"]),
    ],
)
def test_what_is_let_go(device: str, spare: list[str], room: Room, gpu: Room | None, expected: list[str]) -> None:
    assert told(device, spare, room, gpu) == expected
    assert told(device, spare, room, gpu, taken=True) == [], "it is at work"


def test_relief_that_helped_keeps_the_model() -> None:
    engine: Any = Engine("cuda", [])
    turn: Any = SimpleNamespace(taken=False)
    gpu = {"room": SHORT}
    watch = MemoryWatch(engine, turn, None, lambda: FREE, lambda: gpu["room"])
    for moment, room in enumerate([SHORT, SHORT, FREE, SHORT, SHORT]):
        gpu["room"] = room
        watch.look(moment * SHORT_SECONDS)
    assert engine.told == ["spares", "spares"]
