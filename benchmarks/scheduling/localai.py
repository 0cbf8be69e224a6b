"""LocalAI's rule: a job goes at once to the node that has its model, and waits there; only a job that no node can take so is loaded for.

Of nodes with the model the one with the fewest jobs, then the one used longest ago. A model that is nowhere is loaded on an empty node,
else on the idle one used longest ago; where none is idle the job waits until one is. So there is never a second copy of a model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from benchmarks.scheduling.lanes import Lanes
from fleet_api.scheduling.simulation.events import SimJob, SimNode, Start


class LocalAi:
    """Least in flight among the nodes that have the model; else the least recently used idle node loads it."""

    def begin(self, nodes: Sequence[SimNode], switch_seconds: float) -> None:
        self._nodes = nodes
        self._waiting = Lanes()
        self._bound: list[deque[SimJob]] = [deque() for _ in nodes]

    def arrive(self, job: SimJob, now: float) -> None:
        self._waiting.add(job)

    def decide(self, now: float) -> Iterator[Start]:
        for node, bound in zip(self._nodes, self._bound, strict=True):
            if node.idle and bound:
                job = bound.popleft()
                yield Start(node, job.model, job)
        for model in self._waiting.models():
            found = self._loaded(model) or self._evicted()
            if found is None:
                continue
            if found.idle:
                yield Start(found, model, self._waiting.take(model))
            while self._waiting.count(model):
                having = self._loaded(model)
                assert having is not None
                if having.idle:
                    yield Start(having, model, self._waiting.take(model))
                else:
                    self._bound[having.number].append(self._waiting.take(model))

    def _in_flight(self, node: SimNode) -> int:
        return (not node.idle) + len(self._bound[node.number])

    def _loaded(self, model: str) -> SimNode | None:
        having = (node for node in self._nodes if node.model == model)
        return min(having, key=lambda node: (self._in_flight(node), node.last), default=None)

    def _evicted(self) -> SimNode | None:
        idle = (node for node in self._nodes if not self._in_flight(node))
        return min(idle, key=lambda node: (node.model is not None, node.last), default=None)
