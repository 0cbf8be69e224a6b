"""The event loop of a simulation: arrivals, nodes that become free, and a policy that is asked after each.

A job whose model is not the one loaded costs the switch seconds more, the first load too; nothing is interrupted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from fleet_api.scheduling.simulation.trace import Arrival


@dataclass(slots=True, eq=False)
class SimJob:
    """A job of the trace, by its number, with what became of it."""

    number: int
    at: float
    model: str
    seconds: float
    priority: int
    node: int = -1
    started: float = 0.0
    ended: float = 0.0


@dataclass(slots=True, eq=False)
class SimNode:
    """A node. ``free_at`` is when it will have done what it does; ``last`` when it last ended something."""

    number: int
    speed: float
    model: str | None = None
    job: SimJob | None = None
    loading: bool = False
    free_at: float = 0.0
    last: float = -inf

    @property
    def idle(self) -> bool:
        """Whether it does nothing."""
        return self.job is None and not self.loading


@dataclass(frozen=True, slots=True)
class Start:
    """Node, model, and the job that it starts; without a job it only loads the model."""

    node: SimNode
    model: str
    job: SimJob | None = None


@dataclass(frozen=True, slots=True)
class Wake:
    """Ask again at this time."""

    at: float


class Policy(Protocol):
    """A scheduling rule under trial. It keeps what waits itself."""

    def begin(self, nodes: Sequence[SimNode], switch_seconds: float) -> None:
        """Be told of the fleet."""
        ...

    def arrive(self, job: SimJob, now: float) -> None:
        """Be told of a job."""
        ...

    def decide(self, now: float) -> Iterable[Start | Wake]:
        """Return what idle nodes are to do now. Called after every arrival and every end, at the latest state."""
        ...


@dataclass(frozen=True, slots=True)
class Bar:
    """What a node did from when to when: a load (no job) or a job, its load before it included in neither."""

    node: int
    begin: float
    end: float
    model: str
    load: bool


@dataclass(slots=True)
class Run:
    """What came of a trace."""

    jobs: list[SimJob]
    nodes: int
    switches: int = 0
    makespan: float = 0.0
    bars: list[Bar] = field(default_factory=list)


class Stuck(RuntimeError):
    """The policy left jobs waiting with nothing more to happen."""


def run(trace: Sequence[Arrival], speeds: Sequence[float], switch_seconds: float, policy: Policy, bars: bool = False) -> Run:
    """Run a trace, in the order of its arrivals, on nodes of these speeds.

    Raises Stuck where the policy leaves jobs for ever, and ValueError where it gives a node at work something to do.
    """
    nodes = [SimNode(number, speed) for number, speed in enumerate(speeds)]
    jobs = [SimJob(number, each.at, each.model, each.seconds, each.priority) for number, each in enumerate(trace)]
    result = Run(jobs, len(nodes))
    policy.begin(nodes, switch_seconds)
    events: list[tuple[float, int, SimNode | None]] = []
    count = coming = done = 0
    while done < len(jobs):
        now = min(jobs[coming].at if coming < len(jobs) else inf, events[0][0] if events else inf)
        if now == inf:
            raise Stuck(f"The policy leaves {len(jobs) - done} jobs waiting for ever.")
        while coming < len(jobs) and jobs[coming].at <= now:
            policy.arrive(jobs[coming], now)
            coming += 1
        while events and events[0][0] <= now:
            node = heapq.heappop(events)[2]
            if node is not None:
                done += _end(node, now)
        for step in policy.decide(now):
            count += 1
            if isinstance(step, Wake):
                heapq.heappush(events, (max(step.at, now), count, None))
                continue
            _begin(step, now, switch_seconds, result, bars)
            heapq.heappush(events, (step.node.free_at, count, step.node))
    result.makespan = max((job.ended for job in jobs), default=0.0)
    return result


def _end(node: SimNode, now: float) -> int:
    job, node.job, node.loading, node.last = node.job, None, False, now
    if job is None:
        return 0
    job.ended = now
    return 1


def _begin(step: Start, now: float, switch_seconds: float, result: Run, bars: bool) -> None:
    node, job = step.node, step.job
    if not node.idle or (job is not None and (job.node >= 0 or job.model != step.model)):
        raise ValueError(f"The policy gives node {node.number} something it cannot do.")
    ready = now
    if node.model != step.model:
        result.switches += 1
        ready = now + switch_seconds
        node.model = step.model
        if bars and ready > now:
            result.bars.append(Bar(node.number, now, ready, step.model, True))
    node.free_at = ready
    if job is None:
        node.loading = True
        return
    node.job, job.node, job.started = job, node.number, now
    node.free_at = ready + job.seconds / node.speed
    if bars:
        result.bars.append(Bar(node.number, ready, node.free_at, step.model, False))
