"""What the scheduler is told and what it answers. Nothing here knows of a database or a network.

Times are seconds on one clock that never runs backwards; ``work`` is the seconds a job takes on a node of speed 1.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

Order = tuple[bool, int]
"""A job's place in the queue of its priority: (not in front, age)."""


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job in the queue. ``caller`` is whom its share of the fleet is counted to; ``avoid`` is the node where it failed last.

    Jobs of one group that have the same ``kind`` can be made together; None is of a job that is made alone.
    """

    id: str
    job_type: str
    model: str | None
    priority: int = 0
    cluster: str | None = None
    avoid: str | None = None
    sampler: str | None = None
    loras: tuple[str, ...] = ()
    node: str | None = None
    caller: str = ""
    order: Order = (True, 0)
    since: float = 0.0
    work: float = 1.0
    kind: Hashable = None


@dataclass(frozen=True, slots=True)
class Skills:
    """What a node's agent can serve."""

    job_types: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    samplers: frozenset[str] = frozenset()
    loras: frozenset[str] = frozenset()


def _no_seconds(model: str | None) -> float:
    return 0.0


def _unit(model: str | None) -> float:
    return 1.0


@dataclass(slots=True, eq=False)
class Worker:
    """A node as the scheduler sees it.

    ``applied`` are the LoRAs that change ``model`` now.

    ``idle`` asks for work now; else ``free_at`` is when it is expected to, by the clock of the queue. ``loading`` says that what it
    does until then is load ``model``. ``switch`` gives the seconds to load a model, ``speed`` how fast the node is with it. ``loads``
    says that it can be told to load a model without a job; ``instant`` that it need not load any; ``to_come`` is what it has not and
    could fetch. ``barred`` is why it may not be given anything now. ``room`` is the memory that a model could have here, once that which is
    loaded is let go, ``contiguous`` what is free in blocks of the largest size where GPU and processor share it, ``needs`` what models
    need (MiB). ``spare`` are models that are loaded beside ``model``, ``parked`` those that wait in the machine's memory for room on the
    GPU, ``unbuilt`` those that it lacks the engines of. ``note`` is said of it in explanations. ``batch`` is how many jobs
    of one kind it takes at once. Workers of the same ``sort`` have the same seconds and speeds.
    """

    node_id: str
    skills: Skills = field(default_factory=Skills)
    model: str | None = None
    applied: tuple[str, ...] = ()
    cluster: str | None = None
    idle: bool = True
    free_at: float = 0.0
    loading: bool = False
    loaded_at: float = float("-inf")
    loads: bool = True
    instant: bool = False
    barred: str | None = None
    sort: Hashable = None
    switch: Callable[[str | None], float] = _no_seconds
    speed: Callable[[str | None], float] = _unit
    to_come: Skills = field(default_factory=Skills)
    room: float | None = None
    contiguous: float | None = None
    needs: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    spare: frozenset[str] = frozenset()
    parked: frozenset[str] = frozenset()
    unbuilt: frozenset[str] = frozenset()
    batch: int = 1

    def warm(self, model: str | None) -> bool:
        """Return whether a job of the model can start at once."""
        return model == self.model or model is None or self.instant

    def loads_alone(self, model: str | None) -> bool:
        """Return whether it can be told to load the model without a job; a job is told why the model cannot be loaded."""
        return self.loads and model not in self.unbuilt


@dataclass(frozen=True, slots=True)
class Assignment:
    """This job to this node, now, and its companions with it. ``reason`` says why in a few words."""

    job: WaitingJob
    node_id: str
    reason: str
    companions: tuple[WaitingJob, ...] = ()

    @property
    def jobs(self) -> tuple[WaitingJob, ...]:
        """All jobs that are given."""
        return (self.job, *self.companions)


@dataclass(frozen=True, slots=True)
class Load:
    """This node is to load this model, and will ask for work when that is done."""

    node_id: str
    model: str
    reason: str


Decision = Assignment | Load
