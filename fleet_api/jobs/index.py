"""The waiting jobs in queue order, in memory: a cache of the rows in state ``queued``, rebuilt at start.

Jobs of the same needs (type, model, cluster) share a lane, so that a worker reads only the lanes it can serve, however many
jobs wait for others. Adding, removing and finding a position cost O(log n).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sortedcontainers import SortedDict

from fleet_api.jobs.models import Job
from fleet_api.jobs.states import JobType
from fleet_api.scheduling.eligibility import can_serve
from fleet_api.scheduling.types import WaitingJob, Worker

Key = tuple[int, bool, int]
Need = tuple[str, str | None, str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting job and what the queue's page shows of it."""

    job: WaitingJob
    created_at: float
    queued_at: float


def key_of(job: Job) -> Key:
    """Return the sort key: priority (higher first), front, age."""
    return (-job.priority, not job.front, job.seq)


def waiting_of(job: Job) -> WaitingJob:
    """Return the job as the scheduler sees it."""
    picture = job.payload if job.job_type == JobType.IMAGE_GEN else {}
    sampler, lora = picture.get("scheduler"), picture.get("lora")
    return WaitingJob(job.id, job.job_type, job.model, job.priority, job.cluster, job.overtaken, job.avoid, sampler, lora)


def need_of(job: WaitingJob) -> Need:
    """Return what a worker must have for the job."""
    return (job.job_type, job.model, job.cluster, job.sampler, job.lora)


class QueueIndex:
    """Waiting jobs by position and by lane."""

    def __init__(self) -> None:
        self._by_key: SortedDict[Key, Entry] = SortedDict()
        self._keys: dict[str, Key] = {}
        self._lanes: dict[Need, SortedDict[Key, WaitingJob]] = {}
        self._ages: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._keys

    def add(self, job: Job) -> None:
        """Add a job; one that is there already stays where it is."""
        if job.id in self._keys:
            return
        waiting = waiting_of(job)
        self._keys[job.id] = key_of(job)
        self._put(key_of(job), Entry(waiting, job.created_at, job.queued_at))
        heapq.heappush(self._ages, (job.queued_at, job.id))

    def remove(self, job_id: str) -> bool:
        """Remove a job; False if it was not there."""
        key = self._keys.pop(job_id, None)
        if key is None:
            return False
        need = need_of(self._by_key.pop(key).job)
        if not self._keys:
            self._ages.clear()
        lane = self._lanes[need]
        del lane[key]
        if not lane:
            del self._lanes[need]
        return True

    def position(self, job_id: str) -> int | None:
        """Return the job's place, counted from 1; None if it does not wait."""
        key = self._keys.get(job_id)
        return None if key is None else self._by_key.index(key) + 1

    def overtake(self, job_ids: tuple[str, ...]) -> None:
        """Count one more job that went ahead of these."""
        for job_id in job_ids:
            key = self._keys.get(job_id)
            if key is not None:
                entry = self._by_key[key]
                self._put(key, replace(entry, job=replace(entry.job, overtaken=entry.job.overtaken + 1)))

    def servable_by(self, worker: Worker) -> Iterator[WaitingJob]:
        """Yield the jobs that the worker could serve, in queue order."""
        lanes = [lane.items() for lane in self._lanes.values() if can_serve(lane.peekitem(0)[1], worker)]
        for _, job in heapq.merge(*lanes):
            yield job

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

    def _put(self, key: Key, entry: Entry) -> None:
        self._by_key[key] = entry
        need = need_of(entry.job)
        lane = self._lanes.get(need)
        if lane is None:
            lane = self._lanes[need] = SortedDict()
        lane[key] = entry.job
