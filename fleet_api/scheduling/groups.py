"""Waiting jobs of one priority that the same nodes could serve, in the order in which they are due.

Jobs that want the same model in the same place form a group: what is decided about loading models is decided for it. Inside,
jobs that differ in sampler and LoRA have lanes of their own, as not every node may have these; and inside a lane each caller has a row,
so that ten thousand jobs of one are not ahead of one of another.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator
from typing import Any, NamedTuple

from sortedcontainers import SortedDict

from fleet_api.scheduling.eligibility import serves_group, serves_lane
from fleet_api.scheduling.types import Order, WaitingJob, Worker

Rank = tuple[bool, float, int]
"""Where a job is in its row: (not in front, due, age)."""

LaneKey = tuple[str | None, tuple[str, ...]]


class GroupKey(NamedTuple):
    """What makes jobs one group."""

    job_type: str
    model: str | None
    cluster: str | None
    node: str | None


def group_of(job: WaitingJob) -> GroupKey:
    """Return the group that the job belongs to."""
    return GroupKey(job.job_type, job.model, job.cluster, job.node)


Rows = dict[str, SortedDict[Rank, WaitingJob]]
"""Jobs by caller."""


class Group:
    """One group of one priority."""

    __slots__ = ("_by_age", "_kinds", "_lanes", "_ranks", "key", "refused", "since", "work")

    def __init__(self, key: GroupKey) -> None:
        self.key = key
        self.work = 0.0
        self.since = 0.0
        self.refused: dict[str, WaitingJob] = {}
        """Those that failed on a node, and are to avoid it."""

        self._ranks: dict[str, Rank] = {}
        self._by_age: SortedDict[Order, WaitingJob] = SortedDict()
        self._lanes: dict[LaneKey, Rows] = {}
        self._kinds: dict[Hashable, Rows] = {}

    def __len__(self) -> int:
        return len(self._ranks)

    def add(self, job: WaitingJob, due: float) -> None:
        """Add a job that is due (seconds) in its turn."""
        rank = (job.order[0], due, job.order[1])
        self._ranks[job.id] = rank
        if job.avoid is not None:
            self.refused[job.id] = job
        self._by_age[job.order] = job
        _put(self._lanes.setdefault((job.sampler, job.loras), {}), job, rank)
        if job.kind is not None:
            _put(self._kinds.setdefault(_kind(job), {}), job, rank)
        self.work += job.work
        self.since += job.since

    def remove(self, job: WaitingJob) -> None:
        """Remove a job that is there."""
        rank = self._ranks.pop(job.id)
        self.refused.pop(job.id, None)
        del self._by_age[job.order]
        _drop(self._lanes, (job.sampler, job.loras), job, rank)
        if job.kind is not None:
            _drop(self._kinds, _kind(job), job, rank)
        self.work = self.work - job.work if self._ranks else 0.0
        self.since = self.since - job.since if self._ranks else 0.0

    def oldest(self) -> WaitingJob:
        """Return the job that came first."""
        job: WaitingJob = self._by_age.peekitem(0)[1]
        return job

    def serves(self, worker: Worker) -> bool:
        """Return whether the worker could serve a job of the group: no model is loaded for a LoRA that is not there yet."""
        return serves_group(worker, *self.key) and any(serves_lane(worker, sampler, loras) for sampler, loras in self._lanes)

    def rank(self, job: WaitingJob) -> Rank:
        """Return where a job that is there stands; lower comes first."""
        return self._ranks[job.id]

    def due(self, job: WaitingJob) -> float:
        """Return when a job that is there is due in its turn, in seconds."""
        return self._ranks[job.id][1]

    def best(self, worker: Worker, served: Callable[[str], float], taken: Container[str] = (), avoiding: bool = True) -> WaitingJob | None:
        """Return the job that the worker should take next, or None.

        First comes the caller who had least of the fleet lately (``served``), then the LoRAs that are applied already, then the rank.
        Jobs that are ``taken`` are passed over, and those that failed on this node unless ``avoiding`` is off.
        """
        best: tuple[bool, float, bool, Rank] | None = None
        found: WaitingJob | None = None
        alone = len(self._lanes) == 1
        for (sampler, loras), lane in self._lanes.items():
            if not serves_lane(worker, sampler, loras):
                continue
            for caller, row in lane.items():
                job: WaitingJob | None = next(
                    (each for each in row.values() if each.id not in taken and not (avoiding and each.avoid == worker.node_id)), None
                )
                if job is None:
                    continue
                if alone and len(lane) == 1:
                    return job
                key = (job.order[0], served(caller), loras != worker.applied, self._ranks[job.id])
                if best is None or key < best:
                    best, found = key, job
        return found

    def alike(self, job: WaitingJob) -> Rows:
        """Return the jobs that could be made together with one, by caller and rank."""
        return self._kinds.get(_kind(job), {}) if job.kind is not None else {}

    def lanes(self) -> Iterator[tuple[str | None, tuple[str, ...], int]]:
        """Yield sampler, LoRAs and number of the jobs of each lane."""
        for (sampler, loras), lane in self._lanes.items():
            yield sampler, loras, sum(len(row) for row in lane.values())

    def jobs(self) -> Iterator[WaitingJob]:
        """Yield the jobs by age."""
        return iter(self._by_age.values())


def _kind(job: WaitingJob) -> Hashable:
    return job.sampler, job.loras, job.kind


def _put(rows: Rows, job: WaitingJob, rank: Rank) -> None:
    row = rows.get(job.caller)
    if row is None:  # not setdefault: making an empty SortedDict costs more than all the rest
        row = rows[job.caller] = SortedDict()
    row[rank] = job


def _drop(all_rows: dict[Any, Rows], key: Hashable, job: WaitingJob, rank: Rank) -> None:
    rows = all_rows[key]
    row = rows[job.caller]
    del row[rank]
    if not row:
        del rows[job.caller]
        if not rows:
            del all_rows[key]
