"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._monotonic = 1_000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; the monotonic one does not notice."""
        self._now += seconds

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._monotonic += seconds
