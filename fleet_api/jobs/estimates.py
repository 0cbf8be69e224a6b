"""How long a job will wait: the mean of the last jobs' seconds, times those ahead, by the nodes that work."""

from __future__ import annotations

SMOOTHING = 0.2


class WaitEstimate:
    """An exponentially weighted mean of job seconds."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def add(self, seconds: float) -> None:
        """Take in a finished job."""
        self.seconds = seconds if self.seconds is None else self.seconds + SMOOTHING * (seconds - self.seconds)

    def wait(self, position: int, working: int, nodes: int) -> float | None:
        """Return the seconds until the job at ``position`` (from 1) starts; None where nothing is known or no node is there.

        ``working`` jobs are being done on ``nodes`` nodes; each of them is half done on average.
        """
        if self.seconds is None or nodes == 0:
            return None
        ahead = position - 1 + working / 2 if working >= nodes else max(0, position - 1 - (nodes - working))
        return round(self.seconds * ahead / nodes, 1)
