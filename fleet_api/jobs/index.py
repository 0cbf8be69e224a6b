"""The waiting jobs in memory: a cache of the rows in state ``queued``, rebuilt at start.

In queue order for people (:meth:`QueueIndex.page`, :meth:`QueueIndex.position`), and as the scheduler reads them
(:attr:`QueueIndex.waiting`). A job that is kept back after a failure has its place, but the scheduler does not see it before its time.
Adding, removing and finding a position cost O(log n).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sortedcontainers import SortedDict

from fleet_api.jobs.backoff import LONGEST_SECONDS
from fleet_api.jobs.images import batch_kind, lora_names
from fleet_api.jobs.models import Job
from fleet_api.jobs.states import JobType
from fleet_api.kit.clock import Clock
from fleet_api.scheduling.costs import Costs, shape_of
from fleet_api.scheduling.types import WaitingJob
from fleet_api.scheduling.waiting import WaitingQueue

Key = tuple[int, bool, int]
Need = tuple[str, str | None, str | None, str | None, tuple[str, ...], str | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting job and what the queue's page shows of it."""

    job: WaitingJob
    created_at: float
    queued_at: float


def key_of(job: Job) -> Key:
    """Return the sort key: priority (higher first), front, age."""
    return (-job.priority, not job.front, job.seq)


def waiting_of(job: Job, since: float = 0.0, work: float = 1.0) -> WaitingJob:
    """Return the job as the scheduler sees it."""
    picture = job.payload if job.job_type == JobType.IMAGE_GEN else {}
    return WaitingJob(
        job.id, job.job_type, job.model, job.priority, job.cluster, job.avoid, picture.get("scheduler"), lora_names(picture),
        job.target_node, job.caller, (not job.front, job.seq), since, work,
        batch_kind(picture) if not (job.failures or job.losses) else None,  # it may be the job's own doing
    )  # fmt: skip


def need_of(job: WaitingJob) -> Need:
    """Return what a worker must have for the job."""
    return (job.job_type, job.model, job.cluster, job.sampler, job.loras, job.node)


class QueueIndex:
    """Waiting jobs by position, and by what the scheduler asks."""

    def __init__(self, clock: Clock, costs: Costs) -> None:
        self._clock = clock
        self._costs = costs
        self._by_key: SortedDict[Key, Entry] = SortedDict()
        self._keys: dict[str, Key] = {}
        self._ages: list[tuple[float, str]] = []
        self._kept_back: list[tuple[float, str]] = []
        self.waiting = WaitingQueue(began=clock.monotonic())
        self.alone: set[str] = set()
        """Jobs that were in a batch that broke, which any of them may have done: they are made alone until they have ended."""

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._keys

    def add(self, job: Job, arrival: bool = True) -> None:
        """Add a job; one that is there already stays where it is. One that comes back is no ``arrival``."""
        if job.id in self._keys:
            return
        now, wall = self._clock.monotonic(), self._clock.now()
        work = self._costs.work(shape_of(job.model, job.payload))
        waiting = waiting_of(job, now - max(0.0, wall - job.queued_at), work)
        if job.id in self.alone:
            waiting = replace(waiting, kind=None)
        self._keys[job.id] = key_of(job)
        self._by_key[key_of(job)] = Entry(waiting, job.created_at, job.queued_at)
        heapq.heappush(self._ages, (job.queued_at, job.id))
        if job.not_before is not None and job.not_before > wall:
            heapq.heappush(
                self._kept_back, (now + min(job.not_before - wall, LONGEST_SECONDS), job.id)
            )  # the wall clock may have been set back
        else:
            self.waiting.add(waiting, now, self._costs.switch("", job.model), arrival)

    def release(self) -> bool:
        """Let the scheduler see the jobs whose time has come; return whether there was one."""
        now, released = self._clock.monotonic(), False
        while self._kept_back and self._kept_back[0][0] <= now:
            key = self._keys.get(heapq.heappop(self._kept_back)[1])
            job = self._by_key[key].job if key is not None else None
            if job is not None and job.id not in self.waiting:
                self.waiting.add(job, now, self._costs.switch("", job.model), arrival=False)
                released = True
        return released

    def remove(self, job_id: str, started: bool = False) -> bool:
        """Remove a job, ``started`` or cancelled; False if it was not there."""
        key = self._keys.pop(job_id, None)
        if key is None:
            return False
        del self._by_key[key]
        self.waiting.remove(job_id, self._clock.monotonic() if started else None)
        if not self._keys:
            self._ages.clear()
            self._kept_back.clear()
        return True

    def were_started(self, jobs: Iterable[tuple[int, bool, int]]) -> None:
        """At start: note what was started before, as (priority, front, seq), so that overtakes are counted on."""
        for priority, front, seq in jobs:
            self.waiting.was_started(priority, (not front, seq))

    def position(self, job_id: str) -> int | None:
        """Return the job's place, counted from 1; None if it does not wait."""
        key = self._keys.get(job_id)
        return None if key is None else self._by_key.index(key) + 1

    def page(self, limit: int, offset: int) -> list[Entry]:
        """Return a slice of the queue in order."""
        return list(self._by_key.values()[offset : offset + limit])

    def oldest(self) -> float | None:
        """Return when the job that waits longest was queued (epoch seconds). Entries of jobs that wait no more are dropped here."""
        while self._ages:
            queued_at, job_id = self._ages[0]
            key = self._keys.get(job_id)
            if key is not None and self._by_key[key].queued_at == queued_at:
                return queued_at
            heapq.heappop(self._ages)
        return None

    def ids(self) -> list[str]:
        """Return the ids of all waiting jobs in order."""
        return [entry.job.id for entry in self._by_key.values()]
