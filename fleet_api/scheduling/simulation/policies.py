"""The policies that ``fleet simulate`` offers: the product's own rule, and plain first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from fleet_api.scheduling.simulation.events import Policy, SimJob, SimNode, Start
from fleet_api.scheduling.smart import MOST_AT_ONCE, decide
from fleet_api.scheduling.types import Load, Skills, WaitingJob, Worker
from fleet_api.scheduling.waiting import WaitingQueue

JOB_TYPE = "image_gen"


class Smart:
    """Asks :func:`fleet_api.scheduling.smart.decide`, as the dispatcher does."""

    def begin(self, nodes: Sequence[SimNode], switch_seconds: float) -> None:
        """Make the queue and the workers."""
        self._nodes = nodes
        self._switch = switch_seconds
        self._queue = WaitingQueue(began=0.0)
        self._jobs: dict[str, SimJob] = {}
        self._models: set[str] = set()
        self._workers = [_worker(node, switch_seconds) for node in nodes]

    def arrive(self, job: SimJob, now: float) -> None:
        """Queue it."""
        waiting = WaitingJob(
            str(job.number), JOB_TYPE, job.model, job.priority, order=(True, job.number), since=job.at, work=job.seconds
        )  # fmt: skip
        self._jobs[waiting.id] = job
        if job.model not in self._models:
            self._models.add(job.model)
            skills = Skills(frozenset({JOB_TYPE}), frozenset(self._models))
            for worker in self._workers:
                worker.skills = skills
        self._queue.add(waiting, now, self._switch)

    def decide(self, now: float) -> Iterator[Start]:
        """Translate what the rule decides."""
        if not len(self._queue):
            return
        for node, worker in zip(self._nodes, self._workers, strict=True):
            if node.idle and not worker.idle:
                worker.idle, worker.model = True, node.model
                if worker.loading:
                    worker.loading, worker.loaded_at = False, node.last
        more = True
        while more:
            decisions = decide(self._queue, self._workers, now)
            more = len(decisions) >= MOST_AT_ONCE
            for each in decisions:
                node = self._nodes[int(each.node_id)]
                if isinstance(each, Load):
                    yield Start(node, each.model)
                else:
                    job = self._jobs.pop(each.job.id)
                    self._queue.remove(each.job.id, started=now)
                    worker = self._workers[node.number]
                    if worker.model != job.model:
                        worker.model, worker.loaded_at = job.model, now + self._switch
                    yield Start(node, job.model, job)


def _worker(node: SimNode, switch_seconds: float) -> Worker:
    return Worker(
        str(node.number), instant=switch_seconds <= 0, sort=node.speed, switch=lambda model: switch_seconds, speed=lambda model: node.speed
    )  # fmt: skip


class Fifo:
    """First come, first served inside a priority, on a node that has the model if one is idle, else on the first that is."""

    def begin(self, nodes: Sequence[SimNode], switch_seconds: float) -> None:
        """Take the nodes."""
        self._nodes = nodes
        self._waiting: dict[int, deque[SimJob]] = {}

    def arrive(self, job: SimJob, now: float) -> None:
        """Put it at the end of its priority."""
        self._waiting.setdefault(job.priority, deque()).append(job)

    def decide(self, now: float) -> Iterator[Start]:
        """Start the oldest."""
        idle = [node for node in self._nodes if node.idle]
        for priority in sorted(self._waiting, reverse=True):
            waiting = self._waiting[priority]
            while waiting and idle:
                job = waiting.popleft()
                node = next((each for each in idle if each.model == job.model), idle[0])
                idle.remove(node)
                yield Start(node, job.model, job)


POLICIES: dict[str, type[Policy]] = {"smart": Smart, "fifo": Fifo}
