"""When a message that was not taken is sent again: sooner at first, over about a day in all. Pure functions."""

from __future__ import annotations

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

WAITS = (5.0, 30.0, 120.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 28_800.0)
"""Seconds after the first, second, ... failed attempt; after the last one it is given up. 23 hours and 42 minutes in all."""

JITTER = 0.2
"""Each wait is up to so much shorter or longer, so that what failed together does not come again together."""

LONGEST_TOLD = 3_600.0
"""So many seconds a receiver may ask to be left alone; what it asks for beyond is not waited for."""

LONGEST = max(WAITS) * (1 + JITTER)
"""No wait is longer, in seconds: a time further ahead than that was written by a clock that was wrong."""


def wait(failures: int, told: float | None = None, chance: float | None = None) -> float | None:
    """Return the seconds until the next attempt after so many failures in a row; None to give up.

    ``told`` is what the receiver asked for, in seconds; ``chance`` is from 0 to 1, and drawn if left out.
    """
    if failures > len(WAITS):
        return None
    drawn = random.random() if chance is None else chance
    planned = WAITS[failures - 1] * (1 - JITTER + 2 * JITTER * drawn)
    return max(planned, min(told or 0.0, LONGEST_TOLD))


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for: a number, or a date; None for one that says nothing."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
