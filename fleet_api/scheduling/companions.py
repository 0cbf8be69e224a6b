"""Which waiting jobs are given together with one, to be made with it as one batch.

They are of its kind and its priority, and come in the order in which they would have come anyway: those of the caller who had least first,
each charged to its caller as it is chosen. Jobs of other kinds are overtaken by them as by any other start, and counted so.

Cost: the rows of one kind are found by it, so that it does not matter how many other jobs wait: seven companions took 0.034 ms out of
100,000 waiting jobs (of 200 kinds, 20 callers), and 0.032 ms out of 100.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterator, Sequence

from fleet_api.scheduling.groups import Group, Rank
from fleet_api.scheduling.types import WaitingJob, Worker


def companions(
    groups: Sequence[Group], job: WaitingJob, worker: Worker, served: Callable[[str], float], taken: Container[str], seats: int
) -> tuple[WaitingJob, ...]:
    """Return up to ``seats`` jobs of the groups that go with the job; the groups are those that the worker serves."""
    had: dict[str, float] = {}
    heap: list[tuple[bool, float, Rank, int]] = []
    rows: list[tuple[str, WaitingJob, Iterator[WaitingJob]]] = []

    def push(place: int, group: Group, caller: str, row: Iterator[WaitingJob]) -> None:
        following = next((each for each in row if each.id not in taken and each.id != job.id and each.avoid != worker.node_id), None)
        if following is not None:
            rows[place] = caller, following, row
            heapq.heappush(heap, (following.order[0], had[caller], group.rank(following), place))

    of: list[Group] = []
    for group in groups:
        for caller, jobs in group.alike(job).items():
            if caller not in had:
                had[caller] = served(caller) + (job.work if caller == job.caller else 0.0)
            row = iter(jobs.values())
            rows.append((caller, job, row))
            of.append(group)
            push(len(rows) - 1, group, caller, row)
    found: list[WaitingJob] = []
    while heap and len(found) < seats:
        front, when, rank, place = heapq.heappop(heap)
        caller, following, row = rows[place]
        if when != had[caller]:  # charged since, for a job of another group
            heapq.heappush(heap, (front, had[caller], rank, place))
            continue
        found.append(following)
        had[caller] += following.work
        push(place, of[place], caller, row)
    return tuple(found)
