"""SwarmUI's rule: a backend that has the model takes the job; jobs that find none add pressure, and the highest pressure is loaded.

A backend holds the job it runs and one more (its over-queue). The pressure of a model is 10 for each waiting job and 1 for each second
that the first of them has waited. It is loaded when exactly one backend is free, or when it is older than 1.5 s, on the backend that was
used longest ago among those that hold nothing; if all hold something, one that holds a single job is reserved, takes no more, and loads
when it has ended. A model that is being loaded has no pressure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.scheduling.lanes import Lanes
from fleet_api.scheduling.simulation.events import SimJob, SimNode, Start, Wake

MOST_HELD = 2
"""Jobs that a backend holds: one running, one more."""

FOR_EACH = 10.0
"""Pressure of a waiting job; each second of the first one's waiting adds 1."""

PATIENCE = 1.5
"""Seconds until a pressure is acted upon while more than one backend is free."""

ROUNDING = 1e-9
"""Seconds; a wake-up after 1.5 s may find 1.4999999 s to have passed."""


class SwarmUi:
    """The model that is loaded, else the pressure."""

    def begin(self, nodes: Sequence[SimNode], switch_seconds: float) -> None:
        self._nodes = nodes
        self._waiting = Lanes()
        self._next: dict[int, SimJob] = {}
        self._reserved: dict[int, str] = {}

    def arrive(self, job: SimJob, now: float) -> None:
        self._waiting.add(job)

    def decide(self, now: float) -> Iterator[Start | Wake]:
        for node in self._nodes:
            if node.idle and node.number in self._next:
                job = self._next.pop(node.number)
                yield Start(node, job.model, job)
            if node.idle and node.number in self._reserved:
                yield Start(node, self._reserved.pop(node.number))
        yield from self._claims()
        yield from self._loads(now)

    def _held(self, node: SimNode) -> int:
        return (node.job is not None) + (node.number in self._next)

    def _open(self, node: SimNode) -> bool:
        return not node.loading and node.number not in self._reserved and self._held(node) < MOST_HELD

    def _claims(self) -> Iterator[Start]:
        for model in self._waiting.models():
            while self._waiting.count(model):
                having = (node for node in self._nodes if node.model == model and self._open(node))
                node = min(having, key=self._held, default=None)
                if node is None:
                    break
                job = self._waiting.take(model)
                if node.idle:
                    yield Start(node, model, job)
                else:
                    self._next[node.number] = job

    def _loads(self, now: float) -> Iterator[Start | Wake]:
        coming = {*self._reserved.values(), *(node.model for node in self._nodes if node.loading)}
        pressed = [model for model in self._waiting.models() if model not in coming]
        while pressed:
            loaders = [node for node in self._nodes if self._open(node)]
            free = [node for node in loaders if node.idle]
            if not loaders:
                return
            model = max(pressed, key=lambda each: self._pressure(each, now))
            if len(free) != 1 and self._age(model, now) < PATIENCE - ROUNDING:
                yield Wake(now + PATIENCE - self._age(model, now))
                old = [each for each in pressed if self._age(each, now) >= PATIENCE - ROUNDING]
                if not old:
                    return
                model = max(old, key=lambda each: self._pressure(each, now))
            pressed.remove(model)
            node = min(free or loaders, key=lambda each: each.last if each.idle else now)
            if node.idle:
                yield Start(node, model)
            else:
                self._reserved[node.number] = model

    def _age(self, model: str, now: float) -> float:
        first = self._waiting.oldest_of(model)
        return now - first.at if first is not None else 0.0

    def _pressure(self, model: str, now: float) -> float:
        return FOR_EACH * self._waiting.count(model) + self._age(model, now)
