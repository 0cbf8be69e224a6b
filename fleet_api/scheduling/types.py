"""What the scheduler is told. Nothing here knows of a database or a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job in the queue."""

    id: str
    job_type: str
    model: str | None
    priority: int = 0
    cluster: str | None = None
    overtaken: int = 0
    avoid: str | None = None
    sampler: str | None = None
    lora: str | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A node that asks for work."""

    node_id: str
    loaded_model: str | None = None
    cluster: str | None = None
    job_types: frozenset[str] = field(default_factory=frozenset)
    models: frozenset[str] = field(default_factory=frozenset)
    samplers: frozenset[str] = field(default_factory=frozenset)
    loras: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One decision: this job to this node. ``passed_over`` are jobs of the same priority that were ahead of it."""

    job_id: str
    node_id: str
    passed_over: tuple[str, ...] = ()


Candidates = Callable[[Worker], Iterable[WaitingJob]]
"""The waiting jobs that a worker could serve, in queue order; read lazily, so that a long queue costs nothing."""


class Rule(Protocol):
    """A scheduling rule: a pure function of the waiting jobs and the workers that ask."""

    def __call__(self, candidates: Candidates, workers: Iterable[Worker]) -> list[Assignment]:
        """Return at most one assignment a worker."""
        ...
