"""Token buckets."""

from __future__ import annotations

import pytest

from fleet_api.access import limits
from fleet_api.access.limits import RateLimits
from fleet_api.errors import RateLimited
from tests.support.clock import ManualClock


def test_a_bucket_empties_and_fills_again() -> None:
    clock = ManualClock()
    found = RateLimits(clock, per_minute=60, burst=2)
    found.take("a")
    found.take("a")
    with pytest.raises(RateLimited, match=r"60 a minute, 2 at once; wait 1\.0 s"):
        found.take("a")
    found.take("b")
    clock.advance(1.01)
    found.take("a")
    with pytest.raises(RateLimited):
        found.take("a")
    clock.advance(3600)
    found.take("a")
    found.take("a")
    with pytest.raises(RateLimited):
        found.take("a")


def test_callers_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMEMBERED", 2)
    found = RateLimits(ManualClock(), per_minute=60, burst=1)
    for caller in "abc":
        found.take(caller)
    found.take("a")
    with pytest.raises(RateLimited):
        found.take("c")
