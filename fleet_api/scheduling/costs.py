"""What jobs and loads cost, learnt from what they took: averages per node, model, size, steps and sampler, the nearest known first.

A picture is counted in megapixel-steps (width x height / 10^6 x steps), every other job as one. Before the first measurement of a kind
stands the average of the next wider one, at last :data:`PRIOR_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

PRIOR_SECONDS = 0.4
"""Seconds a megapixel-step: about what SDXL takes on a Jetson AGX Orin (``docs/decisions/0030-scheduling.md``)."""

PRIOR_OTHER_SECONDS = 30.0
"""Seconds of a job that is no picture."""

PARKED = "parked"
"""Where a model comes from that left the GPU's memory and waits in the machine's."""

PRIOR_LOAD_SECONDS, PRIOR_WAKE_SECONDS = 5.0, 1.0
PRIOR_LOAD_MIB_PER_SECOND = {"cold": 150.0, "disk": 400.0, "store": 60.0, PARKED: 2000.0}
"""How fast a model is loaded after a start, from the local disk, fetched from the store, and woken, until it was measured."""

SMOOTHING = 0.25
DOUBT = 0.5
"""An average of few measurements leans on the next wider one, which counts as so many."""

STEADY = 4
"""Measurements from which on nodes are told apart by their speed."""


class Shape(NamedTuple):
    """What makes two jobs cost the same on the same node."""

    model: str | None
    sampler: str | None = None
    width: int = 0
    height: int = 0
    steps: int = 0

    @property
    def units(self) -> float:
        """Megapixel-steps of a picture; 1 for what has no size."""
        return self.width * self.height * self.steps / 1e6 or 1.0


def shape_of(model: str | None, payload: dict[str, Any]) -> Shape:
    """Return the shape of a job; what is not a positive number in its payload counts as left out."""

    def number(name: str) -> int:
        value = payload.get(name)
        return value if isinstance(value, int) and value > 0 else 0

    sampler = payload.get("scheduler")
    if model is None or not (number("width") and number("height") and number("steps")):
        return Shape(model)
    return Shape(model, sampler if isinstance(sampler, str) else None, number("width"), number("height"), number("steps"))


@dataclass(slots=True)
class _Average:
    value: float = 0.0
    number: int = 0

    def add(self, value: float) -> None:
        self.number += 1
        self.value += max(SMOOTHING, 1 / self.number) * (value - self.value)

    def leaning_on(self, wider: float) -> float:
        weight = self.number / (self.number + DOUBT)
        return weight * self.value + (1 - weight) * wider


class Costs:
    """The averages. One instance a process; read and changed on the event loop only."""

    def __init__(self) -> None:
        self._rates: dict[tuple[Hashable, ...], _Average] = {}
        self._loads: dict[tuple[str, str, str], _Average] = {}
        self._sizes: dict[str, float] = {}
        self.version = 0

    def ran(self, node: str, shape: Shape, seconds: float) -> None:
        """Note that a job of this shape took so long on the node, loading not counted."""
        rate = max(seconds, 1e-4) / shape.units
        for key in _keys(node, shape):
            self._rates.setdefault(key, _Average()).add(rate)
        self.version += 1

    def loaded(self, node: str, model: str, seconds: float, source: str = "disk") -> None:
        """Note that the node took so long to load the model: ``cold`` after a start, from ``disk`` or ``store``, or :data:`PARKED`."""
        self._loads.setdefault((node, model, source), _Average()).add(seconds)
        self.version += 1

    def size(self, model: str, size_bytes: int) -> None:
        """Note how large a model is, for the first guess of its loading."""
        self._sizes[model] = size_bytes / 2**20

    def forget(self, node: str) -> None:
        """Drop what is known of a node, as it is another machine now or runs in another power mode."""
        self._rates = {key: value for key, value in self._rates.items() if key[0] != node}
        self._loads = {key: value for key, value in self._loads.items() if key[0] != node}
        self.version += 1

    def seconds(self, node: str, shape: Shape) -> float:
        """Return what a job of this shape is expected to take on the node, the model loaded."""
        expected = PRIOR_SECONDS if shape.units != 1.0 or shape.width else PRIOR_OTHER_SECONDS
        for key in reversed(_keys(node, shape)):  # from the widest to the nearest
            average = self._rates.get(key)
            if average is not None:
                expected = average.leaning_on(expected)
        return expected * shape.units

    def work(self, shape: Shape) -> float:
        """Return what a job of this shape is expected to take on the fleet's average node."""
        return self.seconds("", shape)

    def speed(self, node: str, model: str | None) -> float:
        """Return how fast the node is with the model, 1 being the fleet's average."""
        own, every = self._rates.get((node, model)), self._rates.get((None, model))
        if own is None or every is None or own.number < STEADY:
            return 1.0
        return min(20.0, max(0.05, every.value / own.value))

    def switch(self, node: str, model: str | None, source: str = "disk") -> float:
        """Return the seconds that the node is expected to take to load the model.

        What was not measured from where it comes now is taken to be as from elsewhere, and a guess by its size at last. Of one that is
        parked the guess comes first, as it is sooner there than from anywhere else.
        """
        if model is None:
            return 0.0
        guess = PRIOR_WAKE_SECONDS if source == PARKED else PRIOR_LOAD_SECONDS
        guess += self._sizes.get(model, 0.0) / PRIOR_LOAD_MIB_PER_SECOND[source]
        for each in (source, *(other for other in ("disk", "cold") if other != source)):
            known = self._loads.get((node, model, each))
            if known is not None:
                return min(known.value, guess) if source == PARKED != each else known.value
        return guess


def _keys(node: str, shape: Shape) -> tuple[tuple[Hashable, ...], ...]:
    """Return the kinds that a measurement counts for, the nearest first."""
    return (
        (node, shape.model, shape.width, shape.height, shape.steps, shape.sampler),
        (node, shape.model, shape.sampler),
        (node, shape.model),
        (None, shape.model, shape.width, shape.height, shape.steps, shape.sampler),
        (None, shape.model, shape.sampler),
        (None, shape.model),
    )
