"""InvokeAI's rule: first come, first served, but a device may take a job of the model it has from the next 32 numbers.

The bound counts from the oldest waiting job's number, so that one is deferred 32 times at most. The device that has been idle longest
asks first. Users and priorities are left out, as the traces have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.scheduling.lanes import Lanes
from fleet_api.scheduling.simulation.events import SimJob, SimNode, Start

LOOK_AHEAD = 32
"""How far behind the oldest waiting job's number a job may be that goes before it."""


class InvokeAi:
    """The oldest, or one of the loaded model that came little later."""

    def begin(self, nodes: Sequence[SimNode], switch_seconds: float) -> None:
        self._nodes = nodes
        self._waiting = Lanes()

    def arrive(self, job: SimJob, now: float) -> None:
        self._waiting.add(job)

    def decide(self, now: float) -> Iterator[Start]:
        for node in sorted((node for node in self._nodes if node.idle), key=lambda node: node.last):
            if not self._waiting:
                return
            job = self._waiting.oldest()
            near = self._waiting.oldest_of(node.model)
            if near is not None and near.number <= job.number + LOOK_AHEAD:
                job = near
            yield Start(node, job.model, self._waiting.take(job.model))
