"""AI-Horde's rule: workers pull. A worker asks for jobs of the model that it has, and takes the oldest of all where there is none.

The server knows nothing of what is loaded; that a worker asks for its own model first is the best that a worker can do under it.
The worker that has been idle longest asks first. Priorities are left out, as the traces have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.scheduling.lanes import Lanes
from fleet_api.scheduling.simulation.events import SimJob, SimNode, Start


class AiHorde:
    """Own model first, else the oldest."""

    def begin(self, nodes: Sequence[SimNode], switch_seconds: float) -> None:
        self._nodes = nodes
        self._waiting = Lanes()

    def arrive(self, job: SimJob, now: float) -> None:
        self._waiting.add(job)

    def decide(self, now: float) -> Iterator[Start]:
        for node in sorted((node for node in self._nodes if node.idle), key=lambda node: node.last):
            if not self._waiting:
                return
            job = self._waiting.oldest_of(node.model) or self._waiting.oldest()
            yield Start(node, job.model, self._waiting.take(job.model))
