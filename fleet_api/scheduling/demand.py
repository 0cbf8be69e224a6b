"""How much work of a kind comes in: a count of arrivals that fades, and the mean work of a job."""

from __future__ import annotations

from math import exp

WINDOW = 900.0
"""Seconds over which arrivals are forgotten."""

YOUNGEST = 30.0
"""A rate is never taken over less than this many seconds."""

LEAST_WEIGHT = 0.02
"""A new job's weight in the mean, once fifty were seen."""


class Demand:
    """Arrivals of one kind of job since ``began`` (seconds)."""

    __slots__ = ("_began", "_count", "_last", "_seen", "mean")

    def __init__(self, began: float, now: float, work: float) -> None:
        self._began = began
        self._count = 0.0
        self._seen = 0
        self._last = now
        self.mean = work

    def add(self, now: float, work: float) -> None:
        """Note a job of ``work`` seconds."""
        self._count = self._faded(now) + 1
        self._last = max(now, self._last)
        self._seen += 1
        self.mean += max(LEAST_WEIGHT, 1 / self._seen) * (work - self.mean)

    def load(self, now: float) -> float:
        """Return the seconds of work that arrive per second."""
        known = max(now - self._began, YOUNGEST)
        return self._faded(now) * self.mean / (WINDOW * (1 - exp(-known / WINDOW)))

    def _faded(self, now: float) -> float:
        return self._count * exp(-max(0.0, now - self._last) / WINDOW)
