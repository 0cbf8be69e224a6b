"""What the first page shows, read from the domains."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from fleet_api.access.callers import Caller, Role
from fleet_api.dashboard.rows import JobRow, NodeRow, PictureRow
from fleet_api.jobs import repository as jobs
from fleet_api.jobs.models import Job
from fleet_api.jobs.states import JobState
from fleet_api.lifespan import State
from fleet_api.models.catalogue import DEFAULT_SCHEDULER
from fleet_api.outputs.search.repository import Wanted

RUNNING = 30
WAITING = 12
PICTURES = 24
NODES = 24
"""Nodes that are painted at once; the browser adds the others."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the prompt box offers."""

    models: list[str]
    default_model: str
    samplers: list[str]
    default_sampler: str


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the template needs, already in words."""

    caller: Caller
    nodes: list[NodeRow]
    nodes_total: int
    online: int
    running: list[JobRow]
    running_total: int
    waiting: list[JobRow]
    waiting_total: int
    pictures: list[PictureRow]
    pictures_total: int
    choices: Choices

    @property
    def may_change(self) -> bool:
        """Whether the caller may ask for pictures, cancel and delete."""
        return self.caller.role >= Role.OPERATOR

    @property
    def role(self) -> str:
        """The caller's role in a word."""
        return self.caller.role.name.lower()

    @property
    def signed_in(self) -> bool:
        """Whether there is a session to end."""
        return self.caller.csrf_token is not None


async def assemble(fleet: State, caller: Caller) -> Page:
    """Return the page as things stand."""
    ids = [entry.job.id for entry in fleet.jobs.index.page(WAITING, 0)]

    def read(db: Connection) -> tuple[list[Job], int, list[Job]]:
        running, total = jobs.page(db, JobState.PROCESSING, None, RUNNING, 0)
        found = (jobs.get(db, job_id) for job_id in ids)
        return running, total, [job for job in found if job is not None and job.state == JobState.QUEUED]

    running, running_total, waiting = await fleet.db.read(read)
    pictures = await fleet.outputs.page(Wanted(), PICTURES)
    nodes = fleet.nodes.all()
    return Page(
        caller=caller,
        nodes=[NodeRow.of(node) for node in nodes[:NODES]],
        nodes_total=len(nodes),
        online=sum(node.online for node in nodes),
        running=[JobRow.of(view) for view in fleet.views.page(running, {})],
        running_total=running_total,
        waiting=[JobRow.of(view) for view in fleet.views.page(waiting, {})],
        waiting_total=len(fleet.jobs.index),
        pictures=[PictureRow.of(output) for output in pictures.outputs],
        pictures_total=pictures.total,
        choices=choices(fleet),
    )


def choices(fleet: State) -> Choices:
    """Return what the fleet has to offer; the default model is there even while no node is."""
    default = fleet.catalogue.default_model
    return Choices(
        models=sorted({default, *fleet.catalogue.known()}), default_model=default,
        samplers=fleet.catalogue.schedulers() or [DEFAULT_SCHEDULER], default_sampler=DEFAULT_SCHEDULER,
    )  # fmt: skip
