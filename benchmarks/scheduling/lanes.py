"""What waits, by model: the oldest job of all and of one model in O(models), however many wait."""

from __future__ import annotations

from collections import deque

from fleet_api.scheduling.simulation.events import SimJob


class Lanes:
    """Waiting jobs in the order of their arrival, a lane for each model. No lane is empty."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[SimJob]] = {}

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def add(self, job: SimJob) -> None:
        self._lanes.setdefault(job.model, deque()).append(job)

    def count(self, model: str) -> int:
        return len(self._lanes.get(model, ()))

    def models(self) -> list[str]:
        """Return the models that are waited for, that of the oldest job first."""
        return sorted(self._lanes, key=lambda model: self._lanes[model][0].number)

    def oldest(self) -> SimJob:
        """Return the oldest job of all; there must be one."""
        return min((lane[0] for lane in self._lanes.values()), key=lambda job: job.number)

    def oldest_of(self, model: str | None) -> SimJob | None:
        """Return the oldest job of a model, or None."""
        lane = self._lanes.get(model) if model is not None else None
        return lane[0] if lane is not None else None

    def take(self, model: str) -> SimJob:
        """Remove and return the oldest job of a model that is waited for."""
        lane = self._lanes[model]
        job = lane.popleft()
        if not lane:
            del self._lanes[model]
        return job
