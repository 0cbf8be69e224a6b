"""How often one caller may create: a token bucket each."""

from __future__ import annotations

from collections import OrderedDict

from fleet_api.errors import RateLimited
from fleet_api.kit.clock import Clock

REMEMBERED = 10_000  # callers; the one not seen for longest is forgotten first, with a full bucket


class RateLimits:
    """``per_minute`` tokens flow into each caller's bucket, which holds ``burst``; a request takes one."""

    def __init__(self, clock: Clock, per_minute: float, burst: int, does: str = "create") -> None:
        """``does`` is what sentences call that which is counted."""
        self._clock = clock
        self._rate = per_minute / 60
        self._burst = burst
        self._does = does
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Take one token. Raises RateLimited with the seconds until there is one."""
        now = self._clock.monotonic()
        level = self._level(caller, now)
        if level < 1:
            self._put(caller, level, now)
            wait = (1 - level) / self._rate
            raise RateLimited(
                f"Too many requests: one caller may {self._does} {self._rate * 60:g} a minute, {self._burst} at once; wait {wait:.1f} s.",
                {"Retry-After": str(max(1, round(wait + 0.5)))},
            )
        self._put(caller, level - 1, now)

    def owe(self, caller: str, number: int) -> None:
        """Take more tokens for what a request that was let in has made: what is not there is a debt, and the next request waits."""
        now = self._clock.monotonic()
        self._put(caller, self._level(caller, now) - number, now)

    def _level(self, caller: str, now: float) -> float:
        level, seen = self._buckets.pop(caller, (float(self._burst), now))
        return min(float(self._burst), level + (now - seen) * self._rate)

    def _put(self, caller: str, level: float, now: float) -> None:
        self._buckets[caller] = (level, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
