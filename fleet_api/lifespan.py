"""What runs inside the API process: built in order, started in order, stopped in reverse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fleet_api.access import certificates
from fleet_api.access.audit import AuditLog
from fleet_api.access.enrolment import Enrolment
from fleet_api.access.keys import KeyService
from fleet_api.access.limits import RateLimits
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
from fleet_api.metrics import Metrics
from fleet_api.models.catalogue import Catalogue
from fleet_api.nodes.figures import FiguresStream
from fleet_api.nodes.service import NodeService
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.service import OutputService
from fleet_api.retention import Retention
from fleet_api.scheduling.affinity import assign
from fleet_api.settings import Settings

KEY_USE_SECONDS = 10.0
RETENTION_SECONDS = 600.0
WATCH_SECONDS = 0.5  # a node is offline, and a lease lapses, at most this long after its time


@dataclass(slots=True)
class State:
    """Everything that a route may ask for."""

    settings: Settings
    clock: Clock
    db: Database
    bus: Bus
    nodes: NodeService
    figures: FiguresStream
    outputs: OutputService
    jobs: JobService
    leases: LeaseService
    open_leases: OpenLeases
    dispatcher: Dispatcher
    enrolment: Enrolment
    keys: KeyService
    audit: AuditLog
    metrics: Metrics
    limits: RateLimits
    catalogue: Catalogue
    doors: Doors
    views: JobViews
    vault: VaultService
    ssh: SshPool
    host_keys: HostKeys
    operations: OperationService
    onboarding: Onboarding
    joining_all: JoiningAll
    node_plays: NodePlays
    schedule: Schedule
    services: list[LoopService]


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
    keys = KeyService(db, clock)
    retention = Retention(db, clock, settings)
    return State(
        settings=settings, clock=clock, db=db, bus=bus, nodes=nodes, figures=FiguresStream(nodes, clock),
        outputs=outputs, jobs=jobs, leases=leases, open_leases=open_leases,
        dispatcher=dispatcher, enrolment=Enrolment(db, clock, nodes, partial(ca_hash, settings)), keys=keys,
        audit=AuditLog(db, clock), metrics=Metrics(),
        limits=RateLimits(clock, settings.create_per_minute, settings.create_burst), catalogue=catalogue, doors=Doors(catalogue),
        views=JobViews(jobs, open_leases),
        services=[
            LoopService("silence", WATCH_SECONDS, nodes.check_silence),
            LoopService("reaper", WATCH_SECONDS, leases.reap),
            LoopService("key_use", KEY_USE_SECONDS, keys.flush),
            LoopService("retention", RETENTION_SECONDS, retention.run),
        ],
    )  # fmt: skip


def ca_hash(settings: Settings) -> str:
    """Return the hash of the authority that agents are to trust; empty where they are not to look for one."""
    found = certificates.show(settings.tls_folder) if settings.scheme == "https" else None
    return found.ca_hash if found else ""


@asynccontextmanager
async def running(state: State) -> AsyncIterator[State]:
    """Load what the rows say, then run the background services while the context is open."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(state.db.close)
        await state.nodes.load()
        await state.outputs.load()
        await state.jobs.load()
        await state.leases.load()
        stack.push_async_callback(state.audit.settled)
        stack.push_async_callback(state.keys.flush)
        stack.callback(state.bus.close)
        await stack.enter_async_context(state.dispatcher.running())
        for service in state.services:
            await stack.enter_async_context(service.running())
        yield state
