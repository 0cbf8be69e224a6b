"""What waiting lies ahead for each kind of job, with the nodes as they are and with one more or one less for its model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fleet_api.scheduling.backlog import waiting_area
from fleet_api.scheduling.eligibility import serves_group
from fleet_api.scheduling.groups import Group, GroupKey
from fleet_api.scheduling.types import Worker
from fleet_api.scheduling.waiting import Tier, WaitingQueue

HORIZON = 2.0
"""How far ahead is looked, in times of a switch and a job together."""

AGE_COUNTS_DOUBLE = 0.6
"""A job that has waited this long, in the same times, counts double."""


@dataclass(slots=True)
class Backlog:
    """The jobs of one kind that wait, of one priority and those above."""

    count: int = 0
    work: float = 0.0
    since: float = 0.0
    groups: list[Group] = field(default_factory=list)

    @property
    def oldest(self) -> float:
        """When the oldest job came, in seconds."""
        return min(group.oldest().since for group in self.groups)


@dataclass(slots=True)
class Holders:
    """The nodes that have a model or are loading it: idle ones, those at work, and the rest with their delays."""

    idle: float = 0.0
    busy: float = 0.0
    busy_until: float = 0.0
    number: int = 0
    later: tuple[tuple[float, float], ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.idle or self.number or self.later)

    def capacity(self, more: tuple[float, float] | None = None, less: float = 0.0) -> list[tuple[float, float]]:
        """Return what is there from when on, in the order of the delays; with ``less`` idle, or ``more`` after a delay.

        Nodes at work are taken together as free after their mean remaining time, which changes results by less than noise.
        """
        steps = list(self.later)
        if self.idle - less > 0:
            steps.append((0.0, self.idle - less))
        if self.busy > 0:
            steps.append((self.busy_until / self.number, self.busy))
        if more is not None:
            steps.append(more)
        steps.sort()
        return steps


class Outlook:
    """A view of one priority and those above it, at one moment. Changed by :meth:`loads` as decisions are made."""

    def __init__(self, queue: WaitingQueue, now: float) -> None:
        self.now = now
        self.backlogs: dict[GroupKey, Backlog] = {}
        self.models: set[str | None] = set()
        self._queue = queue
        self._workers: dict[str | None, list[Worker]] = {}
        self._instant: list[Worker] = []
        self._holders: dict[GroupKey, Holders] = {}
        self._areas: dict[GroupKey, dict[tuple[float, ...], float]] = {}
        self._costs: dict[tuple[object, ...], float] = {}
        self._demand: dict[GroupKey, tuple[float, float]] = {}

    def see(self, workers: Iterable[Worker]) -> None:
        """Take in the nodes that may work."""
        for worker in workers:
            having = self._workers.get(worker.model)
            if having is None:
                having = self._workers[worker.model] = []
            having.append(worker)
            if worker.instant:
                self._instant.append(worker)

    def include(self, tier: Tier) -> None:
        """Take in the jobs of one more priority."""
        for key, group in tier.groups.items():
            backlog = self.backlogs.get(key)
            if backlog is None:
                backlog = self.backlogs[key] = Backlog()
                self.models.add(key.model)
            if self._holders:  # something was worked out for the priorities above
                self._forget(key)
            backlog.count += len(group)
            backlog.work += group.work
            backlog.since += group.since
            backlog.groups.append(group)

    def loads(self, worker: Worker, model: str, delay: float) -> None:
        """Note that a node leaves its model and will have another after ``delay`` seconds."""
        before = worker.model
        self._workers[before].remove(worker)
        worker.model, worker.idle, worker.loading, worker.free_at, worker.applied = model, False, True, self.now + delay, ()
        self._workers.setdefault(model, []).append(worker)
        for key in (*self._queue.wanting(before), *self._queue.wanting(model)):
            self._forget(key)

    def having(self, key: GroupKey) -> list[Worker]:
        """Return the nodes that have the model of such jobs and could serve them."""
        having = self._workers.get(key.model, [])
        if self._instant:
            having = [*having, *(worker for worker in self._instant if worker.model != key.model)]
        found: list[Worker] = []
        skills, serves = None, False
        for worker in having:
            if worker.skills is not skills or key.cluster is not None or key.node is not None:
                skills, serves = worker.skills, serves_group(worker, *key)
            if serves:
                found.append(worker)
        return found

    def holders(self, key: GroupKey) -> Holders:
        """Return the nodes that can take jobs of this kind without loading its model first."""
        found = self._holders.get(key)
        if found is None:
            found = self._holders[key] = _held(key, self.having(key), self.now)
        return found

    def urgency(self, key: GroupKey, pace: float) -> float:
        """Return how much more the waiting jobs of this kind count for their age."""
        backlog = self.backlogs.get(key)
        if backlog is None:
            return 1.0
        return 1 + (self.now - backlog.since / backlog.count) / (AGE_COUNTS_DOUBLE * (pace + self._wanted(key)[1]))

    def waited(self, key: GroupKey, pace: float) -> float:
        """Return the job-seconds of waiting with the nodes as they are: more than any change for these jobs could save."""
        return self._now(key, pace) * self.urgency(key, pace)

    def saved(self, key: GroupKey, pace: float, speed: float) -> float:
        """Return the job-seconds of waiting saved by one more node of this speed that has the model after ``pace`` seconds."""
        areas = self._areas.setdefault(key, {})
        found = areas.get((pace, speed))
        if found is None:
            with_it = self._area(key, self.holders(key).capacity(more=(pace, speed)), pace)
            found = areas[pace, speed] = (self._now(key, pace) - with_it) * self.urgency(key, pace)
        return found

    def cost(self, worker: Worker, pace: float) -> float:
        """Return the job-seconds of waiting that it would cost the others if the idle node left its model."""
        alike = (worker.model, id(worker.skills), worker.cluster, worker.speed(worker.model), pace)
        found = self._costs.get(alike)
        if found is None:
            found = 0.0
            for key in self._queue.wanting(worker.model):
                if serves_group(worker, *key):
                    without = self._area(key, self.holders(key).capacity(less=worker.speed(key.model)), pace)
                    found += max(0.0, without - self._now(key, pace)) * self.urgency(key, pace)
            self._costs[alike] = found
        return found

    def _now(self, key: GroupKey, pace: float) -> float:
        areas = self._areas.setdefault(key, {})
        area = areas.get((pace,))
        if area is None:
            area = areas[pace,] = self._area(key, self.holders(key).capacity(), pace)
        return area

    def _area(self, key: GroupKey, capacity: Sequence[tuple[float, float]], pace: float) -> float:
        load, mean = self._wanted(key)
        backlog = self.backlogs.get(key)
        return waiting_area(backlog.work if backlog is not None else 0.0, load, mean, capacity, HORIZON * (pace + mean))

    def _wanted(self, key: GroupKey) -> tuple[float, float]:
        found = self._demand.get(key)
        if found is None:
            found = self._demand[key] = self._queue.load(key, self.now), self._queue.mean(key)
        return found

    def _forget(self, key: GroupKey) -> None:
        self._holders.pop(key, None)
        self._areas.pop(key, None)
        self._costs.clear()


def _held(key: GroupKey, workers: Iterable[Worker], now: float) -> Holders:
    idle = busy = until = 0.0
    number, later, model = 0, [], key.model
    for worker in workers:
        speed = worker.speed(model)
        if worker.idle:
            idle += speed
            continue
        left = worker.free_at - now
        if left < 0.0:
            left = 0.0
        if worker.loading:
            later.append((left, speed))
        else:
            busy += speed
            until += left
            number += 1
    return Holders(idle, busy, until, number, tuple(later))
