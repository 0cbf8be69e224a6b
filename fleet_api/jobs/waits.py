"""How long each waiting job will wait: the scheduler's own forecast, made anew when it is asked for and is old.

A forecast follows the first :data:`fleet_api.scheduling.forecast.LIMIT` jobs, 0.3 ms each, so it is kept for a while; for jobs behind
those the work ahead of them is shared out among the nodes.
"""

from __future__ import annotations

from fleet_api.jobs.crew import Crew
from fleet_api.jobs.index import QueueIndex
from fleet_api.kit.clock import Clock
from fleet_api.scheduling.forecast import LIMIT, forecast, share

FRESH_SECONDS = 1.0


class Waits:
    """One instance a process, used on the event loop only."""

    def __init__(self, index: QueueIndex, crew: Crew, clock: Clock) -> None:
        self._index = index
        self._crew = crew
        self._clock = clock
        self._starts: dict[str, float] = {}
        self._made = float("-inf")
        self._length = 0

    def of(self, *job_ids: str) -> list[float | None]:
        """Return the predicted seconds until these waiting jobs start; None for what cannot start as things are."""
        now = self._clock.monotonic()
        if now - self._made > FRESH_SECONDS or any(job_id not in self._starts for job_id in job_ids):
            self._renew(now)
        return [self._one(job_id, now) for job_id in job_ids]

    def _renew(self, now: float) -> None:
        if now - self._made < FRESH_SECONDS and self._length == len(self._index):
            return
        self._starts = {}
        if len(self._index.waiting):
            workers = self._crew.workers()
            self._starts = {job_id: now + seconds for job_id, seconds in forecast(self._index.waiting, workers, now).items()}
        self._made, self._length = now, len(self._index)

    def _one(self, job_id: str, now: float) -> float | None:
        start = self._starts.get(job_id)
        if start is not None:
            return round(max(0.0, start - now), 1)
        position = self._index.position(job_id)
        if position is None or position <= LIMIT:
            return None
        ahead = self._index.waiting.work() * (position - 1) / len(self._index)
        seconds = share(self._crew.workers(), ahead, now)
        return None if seconds is None else round(seconds, 1)
