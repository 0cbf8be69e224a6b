"""Which memory is watched, and what is let go when it is short."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gpu_inference.agent import memory_watch
from gpu_inference.agent.engine_outcome import EngineFailure
from gpu_inference.agent.memory_watch import SHED_SECONDS, SHORT_SECONDS, MemoryWatch
from gpu_inference.memory import Room

FREE, SHORT = Room(16_000, 9_000), Room(16_000, 100)


class Engine:
    """An engine that has a model loaded, and notes what it is told to let go."""

    pid, loaded_model = 2**22 + 1, "a"

    def __init__(self, device: str, spare: list[str], parked: list[str]) -> None:
        self.loaded_device, self.spare_models, self.parked_models = device, spare, parked
        self.told: list[str] = []

    def condemn(self, failure: EngineFailure) -> None:
        self.told.append(f"end {failure.kind}")

    def unload(self, what: str, park: bool = False) -> None:
        self.told.append(f"park {what}" if park else what)
        if what == "parked":
            self.parked_models = []
        else:
            self.parked_models, self.spare_models = [*self.parked_models, *(self.spare_models if park else [])], []


def told(
    device: str,
    spare: list[str],
    room: Room,
    gpu: Room | None,
    parked: list[str] | None = None,
    model: str | None = "a",
    taken: bool = False,
) -> list[str]:
    engine: Any = Engine(device, spare, parked or [])
    engine.loaded_model = model
    turn: Any = SimpleNamespace(taken=taken)
    watch = MemoryWatch(engine, turn, None, lambda: room, lambda: gpu)
    for number in range(4):
        watch.look(number * SHORT_SECONDS)
    return list(engine.told)


@pytest.mark.parametrize(
    ("device", "spare", "room", "gpu", "expected"),
    [
        ("cuda", ["b"], FREE, SHORT, ["park spares", "park all"]),
        ("cuda", [], FREE, SHORT, ["park spares", "park all"]),  # what is kept for speed goes first
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


@pytest.mark.parametrize(
    ("model", "spare", "room", "gpu", "expected"),
    [
        ("a", ["b"], SHORT, FREE, ["parked", "spares"]),  # what is parked holds nothing of the GPU, and goes alone
        ("a", ["b"], SHORT, SHORT, ["parked", "spares"]),
        ("a", [], FREE, SHORT, ["park spares", "park all"]),
        (None, [], SHORT, FREE, ["parked"]),
        (None, [], FREE, SHORT, []),
    ],
)
def test_parked_models_go_where_the_machine_s_memory_is_short(
    model: str | None, spare: list[str], room: Room, gpu: Room, expected: list[str]
) -> None:
    assert told("cuda", spare, room, gpu, ["p"], model) == expected
    at_work = ["parked"] if room is SHORT else []
    assert told("cuda", spare, room, gpu, ["p"], model, taken=True) == at_work, "what only waits goes, what is at work stays"


def test_the_log_names_what_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(memory_watch.logs, "warning", lambda _event, **fields: said.append((fields["what"], fields["models"])))
    told("cuda", ["b"], SHORT, FREE, ["p"])
    assert said == [("parked", ["p"]), ("spares", ["b"])]
    told("cuda", ["b"], FREE, SHORT)
    assert said[2:] == [("spares", ["b"]), ("all", ["a"])]


def test_relief_that_helped_keeps_the_model() -> None:
    engine: Any = Engine("cuda", [], [])
    turn: Any = SimpleNamespace(taken=False)
    gpu = {"room": SHORT}
    watch = MemoryWatch(engine, turn, None, lambda: FREE, lambda: gpu["room"])
    for moment, room in enumerate([SHORT, SHORT, FREE, SHORT, SHORT]):
        gpu["room"] = room
        watch.look(moment * SHORT_SECONDS)
    assert engine.told == ["park spares", "park spares"]


def test_an_engine_at_work_is_not_ended_for_what_only_waits_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Engine("cuda", [], ["p"])
    held = {"mib": 5_000.0}
    monkeypatch.setattr(memory_watch.free_memory, "held", lambda _pid: held["mib"])
    watch = MemoryWatch(engine, SimpleNamespace(taken=True), 4_000, lambda: FREE, lambda: FREE)  # type: ignore[arg-type]
    watch.look(0.0)
    watch.look(SHED_SECONDS - 0.1)
    assert engine.told == ["parked"]
    held["mib"] = 3_000.0
    watch.look(SHED_SECONDS)
    held["mib"] = 5_000.0
    watch.look(SHED_SECONDS + 1)
    assert engine.told == ["parked", "end out_of_memory"], "there was nothing more to let go"
    engine.parked_models, engine.told[:] = ["p"], []
    watch.look(20.0)
    watch.look(20.0 + SHED_SECONDS)
    assert engine.told == ["parked", "end out_of_memory"], "it did not do it in time"
