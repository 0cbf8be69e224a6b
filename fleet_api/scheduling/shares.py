"""How much of the fleet each caller had lately, for fairness inside a priority."""

from __future__ import annotations

from math import exp

MEMORY = 600.0
"""Seconds over which what a caller had is forgotten."""

FORGOTTEN = 1e-3
"""Seconds of work below which a caller counts as new."""

MOST = 10_000
"""So many callers are remembered."""


class Shares:
    """Seconds of work given to each caller, fading."""

    def __init__(self) -> None:
        self._had: dict[str, tuple[float, float]] = {}

    def add(self, caller: str, work: float, now: float) -> None:
        """Note that a job of the caller was started."""
        self._had[caller] = (self.of(caller, now) + work, now)
        if len(self._had) > MOST:
            self._had = {name: had for name, had in self._had.items() if self.of(name, now) > FORGOTTEN}

    def copy(self) -> Shares:
        """Return the same, to be changed apart."""
        other = Shares()
        other._had = dict(self._had)
        return other

    def of(self, caller: str, now: float) -> float:
        """Return the seconds of work that the caller had."""
        had, at = self._had.get(caller, (0.0, now))
        return had * exp(-max(0.0, now - at) / MEMORY)
