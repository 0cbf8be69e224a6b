"""The rule: which idle node takes which job, and which loads another model.

1. Priorities are worked off from the top; what a lower one gets is what a higher one left.
2. A job that was overtaken as often as it may be (:func:`overtakes_allowed`) goes to the next node that can serve it. So does the
   oldest job of a caller who has seen as many jobs start, for each other caller who waits, since one of his own did.
3. A node changes its model when that shortens the waiting of the whole queue: when what it saves the jobs of the new model is more
   than what it costs those of the old one, with a margin (:func:`_best_move`). A model that no node has and that jobs wait for is
   loaded by an idle node that has nothing of its own to do, at once, where a first job of it would end soonest; of several such models
   the one with most and oldest jobs first.
   A node that has just loaded a model keeps it for as long as that took, unless it has nothing to do with it.
4. An idle node takes the best job of the model it has (:meth:`fleet_api.scheduling.groups.Group.best`), except one that a faster node
   will finish earlier. Of jobs of different kinds that it could take at once, those of the caller who had least go first.
5. A node that makes several pictures at once takes others with it that are of the same kind and priority
   (:mod:`fleet_api.scheduling.companions`), as far as no other idle node could begin them now.

Loading is decided apart from jobs: what the node then does is decided when it is ready. Where switching costs nothing this is first
come, first served. The settings are one set for all loads; how they were found is in ``docs/decisions/0030-scheduling.md``.

Cost: 0.2 ms a decision with 100 nodes and 20 models (``fleet simulate``), and O(log n) in the length of the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fleet_api.scheduling.companions import companions
from fleet_api.scheduling.condition import lacks_memory
from fleet_api.scheduling.eligibility import can_serve, serves_group
from fleet_api.scheduling.groups import GroupKey, Rank, group_of
from fleet_api.scheduling.outlook import Outlook
from fleet_api.scheduling.types import Assignment, Decision, Load, WaitingJob, Worker
from fleet_api.scheduling.waiting import Tier, WaitingQueue

OVERTAKES_PER_NODE = 32

MARGIN = 3.4
"""A switch must save so many job-seconds for each second that it takes, beside its cost to others."""

CAUTION = 6.0
"""The cost to those that wait for the node's present model counts so much more than what is saved: leaving a queue that is not empty
is rarely right, and what is left has to be loaded again."""

COUNT_FOR_AGE = 0.4
"""Of models that no node has, the one is loaded first for which (jobs waiting) x this x (seconds of a switch) + (seconds that its
oldest job has waited) is highest."""

MINIMUM_STAY = 1.0
"""A loaded model is kept this long, in switch times, unless its node is idle and nobody has what is wanted."""


MOST_AT_ONCE = 64
"""So many decisions are made in one call; where there are as many, ask again."""


@dataclass(slots=True)
class _Move:
    """A change of model that is worth something.

    ``value`` compares it with others: a model that nobody has comes first, on the node that would end a first job of it soonest.
    """

    worker: Worker
    key: GroupKey
    job: WaitingJob
    value: tuple[bool, float, float]


@dataclass(slots=True)
class _Round:
    """What one call works on, and what it has decided."""

    queue: WaitingQueue
    able: Sequence[Worker]
    idle: list[Worker]
    outlook: Outlook
    decisions: list[Decision] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    taken_of: Counter[tuple[int, GroupKey]] = field(default_factory=Counter)
    alike: Counter[tuple[Hashable, ...]] = field(default_factory=Counter)

    @property
    def now(self) -> float:
        return self.outlook.now

    def served(self, caller: str) -> float:
        return self.queue.shares.of(caller, self.now)

    def left(self, tier: Tier, key: GroupKey) -> int:
        return len(tier.groups[key]) - self.taken_of[tier.priority, key]

    def best(self, tier: Tier, key: GroupKey, worker: Worker) -> WaitingJob | None:
        """Return the job of the group that the worker should take; one that failed there only if nobody else could serve it."""
        group = tier.groups[key]
        job = group.best(worker, self.served, self.taken)
        if job is None and not any(group.serves(other) for other in self.able if other is not worker):
            job = group.best(worker, self.served, self.taken, avoiding=False)
        return job

    def free(self) -> Iterator[Worker]:
        return (worker for worker in self.idle if worker.idle and len(self.decisions) < MOST_AT_ONCE)

    def start(self, worker: Worker, job: WaitingJob, reason: str) -> None:
        given = Assignment(job, worker.node_id, reason, self.riders(worker, job) if worker.batch > 1 and job.kind is not None else ())
        for each in given.jobs:
            self.taken.add(each.id)
            self.taken_of[each.priority, group_of(each)] += 1
            self.alike[_batch(each)] += 1
        delay = 0.0 if worker.warm(job.model) else worker.switch(job.model)
        worker.idle = False
        worker.free_at = self.now + delay + sum(each.work for each in given.jobs) / worker.speed(job.model)
        self.decisions.append(given)

    def riders(self, worker: Worker, job: WaitingJob) -> tuple[WaitingJob, ...]:
        """Return who goes with the job: no more than the worker's part, where others are idle that have the model too."""
        tier = self.queue.tier(job.priority)
        keys = [key for key in tier.groups if key[:2] == (job.job_type, job.model) and serves_group(worker, *key)] if tier else []
        groups = [tier.groups[key] for key in keys] if tier else []
        waiting = sum(len(row) for group in groups for row in group.alike(job).values()) - self.alike[_batch(job)]
        peers = sum(each.idle and each.warm(job.model) and can_serve(job, each) for each in self.idle if each is not worker)
        seats = min(worker.batch, -(-waiting // (1 + peers))) - 1
        return companions(groups, job, worker, self.served, self.taken, seats) if seats > 0 else ()


def _batch(job: WaitingJob) -> tuple[Hashable, ...]:
    return job.priority, job.job_type, job.model, job.sampler, job.loras, job.kind


def overtakes_allowed(nodes: int) -> int:
    """Return how often a job may be overtaken in a fleet of so many nodes."""
    return OVERTAKES_PER_NODE * max(1, nodes)


def decide(queue: WaitingQueue, workers: Sequence[Worker], now: float) -> list[Decision]:
    """Return what the idle workers are to do; at most one thing each, in the order of its importance.

    The workers that get something are changed as if it had begun; the queue is not changed.
    """
    able = [worker for worker in workers if worker.barred is None]
    idle = [worker for worker in able if worker.idle]
    if not idle or not len(queue):
        return []
    outlook = Outlook(queue, now)
    outlook.see(able)
    this = _Round(queue, able, idle, outlook)
    for tier in queue.tiers():
        outlook.include(tier)
        _overdue(this, tier)
        _refused(this, tier)
        _loads(this, tier)
        _warm(this, tier)
        this.idle = list(this.free())
        if not this.idle:
            break
    return this.decisions


def _overdue(this: _Round, tier: Tier) -> None:
    """Give jobs that were passed as often as they may be to whoever can serve them; the oldest were overtaken most.

    What else is started in this call counts already, so that the limit holds for every job that some idle node can serve.
    """
    limit = overtakes_allowed(len(this.able))
    others = sum(worker.batch for worker in this.free()) - 1
    for job in tier.by_age.values():
        overtaken = tier.overtaken(job)
        if overtaken + others < limit:
            break
        if job.id in this.taken:  # it went along with an older one
            continue
        _next(this, job, f"it had been overtaken {overtaken} times, about as often as it may be ({limit})")
    for job in tier.turns.due(limit):
        if job.id not in this.taken:
            _next(this, job, f"{limit} jobs for each other caller had started since one of its own caller's did")


def _next(this: _Round, job: WaitingJob, reason: str) -> None:
    free = [worker for worker in this.free() if can_serve(job, worker) and not lacks_memory(worker, job.model)]
    if free:
        worker = min(free, key=lambda each: (job.avoid == each.node_id, 0.0 if each.warm(job.model) else each.switch(job.model)))
        this.start(worker, job, reason)


def _loads(this: _Round, tier: Tier) -> None:
    """Decide which idle nodes change their model, the most valuable change first."""
    while (move := _best_move(this, tier)) is not None:
        worker, model = move.worker, move.key.model
        assert model is not None
        reason = "no node had its model" if move.value[0] else "its model on one more node shortens the whole queue"
        if worker.loads_alone(model):
            this.decisions.append(Load(worker.node_id, model, reason))
        else:
            this.start(worker, move.job, reason)
        this.outlook.loads(worker, model, worker.switch(model))


def _best_move(this: _Round, tier: Tier) -> _Move | None:
    best: _Move | None = None
    outlook, now = this.outlook, this.now
    free = list(this.free())
    different = _different(free)
    prices: dict[tuple[str, float], float] = {}
    for key, group in tier.groups.items():
        model = key.model
        if model is None or not free or not this.left(tier, key):
            continue
        nobody = not outlook.holders(key).any
        pool = [each for each in (different if key.node is None else free) if each.model != model and not each.instant]
        pool = [each for each in pool if not lacks_memory(each, model)]
        dearest, mean = max((each.switch(model) for each in pool), default=0.0) if nobody else 0.0, this.queue.mean(key)
        mosts: dict[float, float] = {}
        worth: dict[tuple[float, float], float] = {}
        for worker in pool:
            pace, speed = worker.switch(model), worker.speed(model)
            if nobody and worker.model not in outlook.models:
                later = outlook.cost(worker, pace) + outlook.backlogs[key].count * (pace + mean / speed)
                value = True, _pressure(this, key, dearest) - later * 1e-6, speed
            elif best is not None and best.value[0]:
                continue
            else:
                margin = 0.0 if nobody else MARGIN * pace
                least = best.value[1] if best is not None else 0.0
                most = mosts.get(pace)
                if most is None:
                    most = mosts[pace] = outlook.waited(key, pace) - margin
                if most <= least or now < worker.loaded_at + MINIMUM_STAY * pace:
                    continue
                price = prices.get((worker.node_id, pace))
                if price is None:
                    price = prices[worker.node_id, pace] = CAUTION * outlook.cost(worker, pace)
                if most - price <= least:
                    continue  # most end here, without a look at what would be with one more node
                gain = worth.get((pace, speed))
                if gain is None:
                    gain = worth[pace, speed] = outlook.saved(key, pace, speed) - margin
                value = False, gain - price, 0.0
                if value[1] <= 0:
                    continue
            if (best is None or value > best.value) and group.serves(worker):
                job = this.best(tier, key, worker)
                best = _Move(worker, key, job, value) if job is not None else best
    return best


def _different(workers: Iterable[Worker]) -> list[Worker]:
    """Return one of each sort of worker, as hundreds of idle ones are mostly of a few."""
    found: dict[tuple[object, ...], Worker] = {}
    for worker in workers:
        sort = (worker.model, id(worker.skills), worker.cluster, worker.sort)
        known = found.get(sort)
        if known is None or worker.loaded_at < known.loaded_at:
            found[sort] = worker
    return list(found.values())


def _pressure(this: _Round, key: GroupKey, pace: float) -> float:
    backlog = this.outlook.backlogs[key]
    return COUNT_FOR_AGE * pace * backlog.count + this.now - backlog.oldest


def _warm(this: _Round, tier: Tier) -> None:
    """Give idle nodes, fast ones first, the best jobs of the models that they have."""
    wanted = {key.model for key in tier.groups}
    idle = [worker for worker in this.free() if worker.model in wanted or None in wanted or worker.instant]
    for worker in sorted(idle, key=lambda each: -each.speed(each.model)):
        job = _first(this, tier, worker) if len(this.decisions) < MOST_AT_ONCE else None
        if job is not None:
            this.start(worker, job, "the node had its model loaded" if job.model else "the node was idle")


def _refused(this: _Round, tier: Tier) -> None:
    """Find somebody for jobs that failed on the only node with their model: another one loads it, whatever that costs."""
    for key, group in list(tier.groups.items()):
        for job in group.refused.values():
            model = job.model
            if model is None or job.id in this.taken:
                continue
            having = {worker.node_id for worker in this.outlook.having(key)}
            others = [worker for worker in this.free() if worker.node_id != job.avoid and can_serve(job, worker)]
            able = [worker for worker in others if not lacks_memory(worker, model)]
            if having != {job.avoid} or not able:
                continue
            worker = min(able, key=lambda each: each.switch(model))
            reason = "it failed on the only node that has its model"
            if worker.loads_alone(model):
                this.decisions.append(Load(worker.node_id, model, reason))
                this.outlook.loads(worker, model, worker.switch(model))
            else:
                this.start(worker, job, reason)


def _first(this: _Round, tier: Tier, worker: Worker) -> WaitingJob | None:
    best: WaitingJob | None = None
    lowest: tuple[bool, float, Rank] | None = None
    for key, group in tier.groups.items():
        left = this.left(tier, key)
        if not left or not worker.warm(key.model) or not group.serves(worker):
            continue
        job = this.best(tier, key, worker)
        if job is None:
            continue
        rank = (job.order[0], this.served(job.caller), group.rank(job))
        if (lowest is None or rank < lowest) and _sooner(this, key, worker, job) < left:
            best, lowest = job, rank
    return best


def _sooner(this: _Round, key: GroupKey, worker: Worker, job: WaitingJob) -> int:
    """Return how many such jobs the other nodes with the model, although at work, would end before this node would end this one."""
    here, mean, found = job.work / worker.speed(key.model), this.queue.mean(key), 0
    for other in this.outlook.having(key):
        if other is worker or other.idle:
            continue
        speed = other.speed(key.model)
        spare = here - max(0.0, other.free_at - this.now) - job.work / speed
        if spare > 0:
            found += 1 + int(spare * speed / mean)
    return found
