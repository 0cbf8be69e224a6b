"""How long a job that failed waits for its next try. Pure."""

from __future__ import annotations

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0


def retry_after(failures: int) -> float:
    """Return the seconds to wait after so many failures, at least one: doubled each time, a minute at most."""
    return float(min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 10)))
