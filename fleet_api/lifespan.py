"""What runs inside the API process: built in order, started in order, stopped in reverse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fleet_api.access.enrolment import Enrolment
from fleet_api.jobs.dispatcher import Dispatcher
from fleet_api.jobs.doors import Doors
from fleet_api.jobs.held import OpenLeases
from fleet_api.jobs.leases import LeaseService
from fleet_api.jobs.service import JobService
from fleet_api.jobs.views import JobViews
from fleet_api.kit.bus import Bus
from fleet_api.kit.clock import Clock, SystemClock
from fleet_api.kit.db import Database
from fleet_api.kit.loop_service import LoopService
from fleet_api.models.catalogue import Catalogue
from fleet_api.nodes.service import NodeService
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.service import OutputService
from fleet_api.scheduling.affinity import assign
from fleet_api.settings import Settings

WATCH_SECONDS = 0.5  # a node is offline, and a lease lapses, at most this long after its time


@dataclass(slots=True)
class State:
    """Everything that a route may ask for."""

    settings: Settings
    clock: Clock
    db: Database
    bus: Bus
    nodes: NodeService
    outputs: OutputService
    jobs: JobService
    leases: LeaseService
    open_leases: OpenLeases
    dispatcher: Dispatcher
    enrolment: Enrolment
    catalogue: Catalogue
    doors: Doors
    views: JobViews


def build(settings: Settings, clock: Clock | None = None) -> State:
    """Put the parts together; nothing runs yet but the database's threads."""
    clock = clock or SystemClock()
    db = Database(settings.database)
    bus = Bus()
    nodes = NodeService(db, clock, bus)
    outputs = OutputService(db, OutputFiles(settings.outputs))
    jobs = JobService(db, clock, bus, nodes, settings.queue_limit)
    open_leases = OpenLeases()
    dispatcher = Dispatcher(db, clock, jobs.index, open_leases, assign)
    jobs.wake = dispatcher.wake
    leases = LeaseService(db, clock, bus, nodes, jobs, open_leases, dispatcher, outputs)
    catalogue = Catalogue(nodes, settings.default_model)
    return State(
        settings=settings, clock=clock, db=db, bus=bus, nodes=nodes, outputs=outputs, jobs=jobs, leases=leases, open_leases=open_leases,
        dispatcher=dispatcher, enrolment=Enrolment(db, clock, nodes), catalogue=catalogue, doors=Doors(catalogue),
        views=JobViews(jobs, open_leases),
    )  # fmt: skip


@asynccontextmanager
async def running(state: State) -> AsyncIterator[State]:
    """Load what the rows say, then run the background services while the context is open."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(state.db.close)
        await state.nodes.load()
        await state.outputs.load()
        await state.jobs.load()
        await state.leases.load()
        stack.callback(state.bus.close)
        await stack.enter_async_context(state.dispatcher.running())
        await stack.enter_async_context(LoopService("silence", WATCH_SECONDS, state.nodes.check_silence).running())
        await stack.enter_async_context(LoopService("reaper", WATCH_SECONDS, state.leases.reap).running())
        yield state
