"""When the waiting jobs will start, if nothing more came in: the rule itself, run ahead on copies."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from copy import copy

from fleet_api.scheduling.smart import MOST_AT_ONCE, decide
from fleet_api.scheduling.types import Assignment, Worker
from fleet_api.scheduling.waiting import WaitingQueue

LIMIT = 100
"""So many jobs are followed; for those behind them their work is shared out among the nodes. 0.3 ms a job."""


def forecast(queue: WaitingQueue, workers: Sequence[Worker], now: float, limit: int = LIMIT) -> dict[str, float]:
    """Return the seconds until the first ``limit`` waiting jobs start, by job; one that is not there cannot start as things are.

    Nodes at work are free when they are expected to be, and at once if that is past.
    """
    copies = [copy(worker) for worker in workers]
    by_id = {worker.node_id: worker for worker in copies}
    trial = queue.copy_of_first(limit)
    events = [(max(worker.free_at, now), number) for number, worker in enumerate(copies) if not worker.idle]
    heapq.heapify(events)
    numbers = {worker.node_id: number for number, worker in enumerate(copies)}
    starts: dict[str, float] = {}
    clock = now
    while len(trial):
        decisions = decide(trial, copies, clock)
        for each in decisions:
            worker = by_id[each.node_id]
            if isinstance(each, Assignment):
                for job in each.jobs:
                    trial.remove(job.id, started=clock)
                    starts[job.id] = clock - now
                if not worker.warm(each.job.model):
                    worker.model, worker.loaded_at = each.job.model, clock
            heapq.heappush(events, (worker.free_at, numbers[each.node_id]))
        if len(decisions) >= MOST_AT_ONCE:
            continue
        if not events:
            break
        clock = events[0][0]
        while events and events[0][0] <= clock:
            _free(copies[heapq.heappop(events)[1]], clock)
    return starts


def _free(worker: Worker, clock: float) -> None:
    worker.idle = True
    if worker.loading:
        worker.loading, worker.loaded_at = False, clock


def share(workers: Sequence[Worker], ahead: float, now: float) -> float | None:
    """Return the seconds until ``ahead`` seconds of work are done by all nodes together; None where there is no node."""
    able = [worker for worker in workers if worker.barred is None]
    if not able:
        return None
    at_work = sum(max(0.0, worker.free_at - now) for worker in able if not worker.idle)
    return (ahead + at_work) / sum(worker.speed(worker.model) for worker in able)
