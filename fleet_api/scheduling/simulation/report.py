"""What a run came to, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from fleet_api.scheduling.simulation.events import Run


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from arrival to end."""

    jobs: int
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float


def latency(seconds: Sequence[float]) -> Latency:
    """Return mean, percentiles (nearest rank) and maximum of at least one latency."""
    ordered = sorted(seconds)

    def percentile(percent: int) -> float:
        return ordered[ceil(percent / 100 * len(ordered)) - 1]

    mean = sum(ordered) / len(ordered)
    return Latency(len(ordered), *(round(each, 3) for each in (mean, percentile(50), percentile(95), percentile(99), ordered[-1])))


def report(run: Run) -> dict[str, Any]:
    """Return the figures of a run: of all its jobs, and of each priority, highest first."""
    by_priority: dict[int, list[float]] = {}
    for job in run.jobs:
        by_priority.setdefault(job.priority, []).append(job.ended - job.at)
    every = latency([job.ended - job.at for job in run.jobs])
    return {
        **asdict(every),
        "switches": run.switches,
        "makespan_s": round(run.makespan, 3),
        "priorities": {str(priority): asdict(latency(by_priority[priority])) for priority in sorted(by_priority, reverse=True)},
    }
