"""How long jobs will wait, as formulas: a queue drained like a fluid, and what randomness adds once it is empty."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

Capacity = Sequence[tuple[float, float]]
"""(delay in seconds, capacity that is there from then on), in the order of the delays."""

LAST_SPARE = 0.25
"""What is left at the horizon drains at least this fast, in nodes."""

LEFT_OVER = 0.5
"""How much the drain of what is left at the horizon counts."""

RANDOM_PART = 0.6
"""How much the mean wait of an empty queue counts."""

LONGEST_RANDOM = 1.5
"""That wait is at most this many mean jobs; nearer to saturation the formula runs to infinity."""


def mean_wait(servers: float, load: float, mean: float) -> float:
    """Return the mean wait in seconds in a queue of random arrivals.

    ``load`` is the work that arrives per second, in servers; ``mean`` the mean work of a job in seconds. Sakasegawa's approximation of
    the M/M/c queue (H. Sakasegawa, An approximation formula L_q = alpha rho^beta / (1 - rho), 1977); infinite from saturation on.
    """
    if load >= servers:
        return inf
    if load <= 0:
        return 0.0
    used = load / servers
    return mean * float(used ** (sqrt(2 * (servers + 1)) - 1)) / (servers * (1 - used))


def waiting_area(work: float, load: float, mean: float, capacity: Capacity, horizon: float) -> float:
    """Return the job-seconds that will be waited within ``horizon`` seconds, and for what is left over then.

    ``work`` seconds are waiting now, ``load`` seconds of work arrive per second, a job is ``mean`` seconds of work. Costs 2 us.
    """
    area = random = now = servers = 0.0
    used, steps = 0, len(capacity)
    while now < horizon:
        while used < steps and capacity[used][0] <= now:
            servers += capacity[used][1]
            used += 1
        until = capacity[used][0] if used < steps and capacity[used][0] < horizon else horizon
        span, slope = until - now, load - servers
        if work <= 0 and slope <= 0:
            if servers > 0:
                random += load * min(mean_wait(servers, load, mean), LONGEST_RANDOM * mean) * span
            now = until
            continue
        empties = slope < 0 and work < -slope * span
        if empties:
            span = work / -slope
        area += work * span + slope * span * span / 2
        work = 0.0 if empties else work + slope * span
        now = now + span if empties else until
    if work > 0:
        area += LEFT_OVER * work * work / (2 * max(servers - load, LAST_SPARE))
    return (area + RANDOM_PART * random) / mean
