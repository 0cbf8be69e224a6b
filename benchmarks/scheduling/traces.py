"""Seeded traces: jobs that arrive at random (Poisson), with work of exponential length, for models of unequal popularity."""

from __future__ import annotations

import random
from dataclasses import dataclass

from fleet_api.scheduling.simulation.trace import Arrival

MEAN_WORK = 8.0
"""Mean seconds of work of a job."""

LEAST_WORK = 0.5
"""No job is shorter than this many seconds."""

SWITCH_SECONDS = 30.0
JOBS = 8_000
SEEDS = (1, 2, 3)

BURST = 25
"""Jobs of one model that arrive at once."""

BURSTS = 0.04
"""Share of the arrivals that are bursts."""


@dataclass(frozen=True)
class Traffic:
    """A fleet and what is asked of it: ``load`` is the share of the nodes' time that is work; model k is wanted k^-``zipf`` as often."""

    nodes: int
    models: int
    load: float
    zipf: float = 1.0
    bursts: bool = False

    @property
    def name(self) -> str:
        more = (", bursts" if self.bursts else "") + ("" if self.zipf else ", all alike")
        return f"{self.nodes} nodes, {self.models} models, {self.load:g}{more}"

    def trace(self, seed: int, jobs: int = JOBS) -> list[Arrival]:
        """Return the jobs in the order of their arrival."""
        chance = random.Random(seed)
        models = [f"m{number}" for number in range(self.models)]
        weights = [1 / (number + 1) ** self.zipf for number in range(self.models)]
        arrivals = self.load * self.nodes / MEAN_WORK
        if self.bursts:
            arrivals /= 1 + BURSTS * (BURST - 1)
        now, found = 0.0, list[Arrival]()
        while len(found) < jobs:
            number = BURST if self.bursts and chance.random() < BURSTS else 1
            now += chance.expovariate(arrivals)
            model = chance.choices(models, weights)[0]
            found += [Arrival(now, model, max(LEAST_WORK, chance.expovariate(1 / MEAN_WORK))) for _ in range(number)]
        return found[:jobs]


TRACES = (
    Traffic(3, 3, 0.6),
    Traffic(10, 6, 0.5),
    Traffic(10, 6, 0.7),
    Traffic(10, 6, 0.85),
    Traffic(10, 20, 0.7),
    Traffic(50, 20, 0.8),
    Traffic(10, 6, 0.6, bursts=True),
)
"""Those that the goals are told for."""

WIDER = (
    Traffic(3, 6, 0.3),
    Traffic(5, 8, 0.3),
    Traffic(10, 20, 0.4),
    Traffic(4, 12, 0.5),
    Traffic(20, 10, 0.7),
    Traffic(3, 3, 0.3),
    Traffic(10, 6, 0.7, zipf=0.0),
    Traffic(5, 8, 0.3, zipf=0.0),
    Traffic(10, 20, 0.4, zipf=0.0),
)
"""More: mostly many models and little to do, where a job that comes finds its model loaded or waits for it, whatever the rule."""
