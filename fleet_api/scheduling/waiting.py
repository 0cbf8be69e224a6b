"""The waiting jobs as the scheduler reads them: by priority, then by group; with what came in lately and who had how much.

Adding, removing and counting overtakes cost O(log n), however long the queue is.
"""

from __future__ import annotations

from sortedcontainers import SortedDict, SortedList

from fleet_api.scheduling.demand import Demand
from fleet_api.scheduling.groups import Group, GroupKey, group_of
from fleet_api.scheduling.shares import Shares
from fleet_api.scheduling.turns import Turns
from fleet_api.scheduling.types import Order, WaitingJob

QUICK_FIRST = 2.0
"""A job may be let past by quicker ones of its group that come up to this many switch times after it."""

KINDS_REMEMBERED = 10_000

STARTS_REMEMBERED = 100_000
"""A job that more than so many went past was overtaken more often than any fleet allows, however many more there were."""


class Tier:
    """The waiting jobs of one priority."""

    __slots__ = ("_counted", "_started", "by_age", "groups", "priority", "turns")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.groups: dict[GroupKey, Group] = {}
        self.by_age: SortedDict[Order, WaitingJob] = SortedDict()
        self.turns = Turns()
        self._started: SortedList[Order] = SortedList()
        self._counted: dict[str, int] = {}

    def overtaken(self, job: WaitingJob) -> int:
        """Return how many jobs of this priority that came later were started while it waited."""
        earlier: int = self._started.bisect_right(job.order)
        return len(self._started) - earlier - self._counted.get(job.id, 0)

    def came(self, job: WaitingJob) -> None:
        """Take a job in; what was started before, while it was not waiting, did not overtake it."""
        self.by_age[job.order] = job
        self.turns.came(job)
        later = self.overtaken(job)
        if later:
            self._counted[job.id] = later

    def left(self, job: WaitingJob, started: bool) -> None:
        """Note that a job has gone, because it was ``started`` or otherwise."""
        del self.by_age[job.order]
        self.turns.left(job, started)
        self._counted.pop(job.id, None)
        if not self.by_age:
            self._started.clear()
            self._counted.clear()
            return
        oldest = self.by_age.peekitem(0)[0]
        if started and job.order > oldest:
            self._started.add(job.order)
        if len(self._started) > STARTS_REMEMBERED:
            del self._started[: STARTS_REMEMBERED // 2]
        self._forget(oldest)

    def was_started(self, order: Order) -> None:
        """Note a job that was started earlier."""
        if order > self.by_age.peekitem(0)[0]:
            self._started.add(order)

    def _forget(self, oldest: Order) -> None:
        """Drop what was started and is older than all that wait: it overtook nobody who is still here."""
        gone = self._started.bisect_right(oldest)
        if gone:
            del self._started[:gone]


class WaitingQueue:
    """Every waiting job. ``began`` is when demand was first watched."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._tiers: SortedDict[int, Tier] = SortedDict()
        self._demand: dict[GroupKey, Demand] = {}
        self._by_model: dict[str | None, list[GroupKey]] = {}
        self._jobs: dict[str, WaitingJob] = {}
        self.shares = Shares()

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def get(self, job_id: str) -> WaitingJob | None:
        """Return a job that waits."""
        return self._jobs.get(job_id)

    def add(self, job: WaitingJob, now: float, switch: float = 0.0, arrival: bool = True) -> None:
        """Add a job whose model takes ``switch`` seconds to load; one that comes back is no ``arrival``."""
        key = group_of(job)
        demand = self._demand.get(key)
        if demand is None:
            demand = self._demand[key] = Demand(self._began, now, job.work)
            self._by_model.setdefault(key.model, []).append(key)
            if len(self._demand) > KINDS_REMEMBERED:
                self._forget_demand(now)
        if arrival:
            demand.add(now, job.work)
        patience = QUICK_FIRST * switch * min(job.work / demand.mean, 1.0) if demand.mean > 0 else 0.0
        self._put(job, key, job.since + patience)

    def remove(self, job_id: str, started: float | None = None) -> WaitingJob | None:
        """Remove a job, ``started`` at that time or cancelled; return it, or None if it was not there."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return None
        tier = self._tiers[-job.priority]
        key = group_of(job)
        group = tier.groups[key]
        group.remove(job)
        if not len(group):
            del tier.groups[key]
        tier.left(job, started is not None)
        if not tier.by_age:
            del self._tiers[-job.priority]
        if started is not None:
            self.shares.add(job.caller, job.work, started)
        return job

    def was_started(self, priority: int, order: Order) -> None:
        """Note a job that was started before this queue was made; those that wait and are older were overtaken by it."""
        tier = self._tiers.get(-priority)
        if tier is not None:
            tier.was_started(order)

    def work(self) -> float:
        """Return the seconds of work that wait, on a node of speed 1."""
        tiers: list[Tier] = self.tiers()
        return sum(group.work for tier in tiers for group in tier.groups.values())

    def tiers(self) -> list[Tier]:
        """Return the priorities at which jobs wait, highest first."""
        return list(self._tiers.values())

    def tier(self, priority: int) -> Tier | None:
        """Return the jobs of one priority."""
        found: Tier | None = self._tiers.get(-priority)
        return found

    def overtaken(self, job_id: str) -> int:
        """Return how often a waiting job was overtaken; 0 for one that does not wait."""
        job = self._jobs.get(job_id)
        return self._tiers[-job.priority].overtaken(job) if job is not None else 0

    def load(self, key: GroupKey, now: float) -> float:
        """Return the seconds of work of this kind that come in per second."""
        demand = self._demand.get(key)
        return demand.load(now) if demand is not None else 0.0

    def mean(self, key: GroupKey) -> float:
        """Return the mean work of a job of this kind, in seconds."""
        demand = self._demand.get(key)
        return demand.mean if demand is not None and demand.mean > 0 else 1.0

    def wanting(self, model: str | None) -> list[GroupKey]:
        """Return the kinds of jobs seen that want a model."""
        return self._by_model.get(model, [])

    def copy_of_first(self, number: int) -> WaitingQueue:
        """Return a queue of the first so many jobs by priority and age, with the same demand and shares."""
        trial = WaitingQueue(self._began)
        trial._demand, trial._by_model = self._demand, self._by_model
        trial.shares = self.shares.copy()
        for tier in self.tiers():
            for job in tier.by_age.values():
                if len(trial) >= number:
                    return trial
                key = group_of(job)
                trial._put(job, key, tier.groups[key].due(job))
        return trial

    def _put(self, job: WaitingJob, key: GroupKey, due: float) -> None:
        tier = self._tiers.get(-job.priority)
        if tier is None:
            tier = self._tiers[-job.priority] = Tier(job.priority)
        group = tier.groups.get(key)
        if group is None:
            group = tier.groups[key] = Group(key)
        group.add(job, due)
        tier.came(job)
        self._jobs[job.id] = job

    def _forget_demand(self, now: float) -> None:
        kept = sorted(self._demand, key=lambda key: self._demand[key].load(now), reverse=True)[: KINDS_REMEMBERED // 2]
        self._demand = {key: self._demand[key] for key in kept}
        self._by_model = {}
        for key in kept:
            self._by_model.setdefault(key.model, []).append(key)
