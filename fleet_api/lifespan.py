"""What runs inside the API process: built in order, started in order, stopped in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from fleet_api import collection
from fleet_api.access import certificates
from fleet_api.access.addresses import own_addresses
from fleet_api.access.audit import AuditLog
from fleet_api.access.enrolment import Enrolment
from fleet_api.access.host_keys import HostKeys
from fleet_api.access.keys import KeyService
from fleet_api.access.limits import RateLimits
from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.ansible.play import Plays
from fleet_api.adapters.ansible.runner import AnsiblePlays
from fleet_api.adapters.docker.engines import DockerEngines, Swept
from fleet_api.adapters.docker.types import Engines
from fleet_api.adapters.http_out.client import HttpOutClient
from fleet_api.adapters.scan import NetworkProber
from fleet_api.adapters.ssh.client import SshClient
from fleet_api.adapters.ssh.pool import Pool
from fleet_api.adapters.ssh.types import Ssh
from fleet_api.adapters.ssh.wire import SshWires
from fleet_api.backups.service import BackupService
from fleet_api.callbacks.addresses import CallbackRules
from fleet_api.callbacks.courier import Courier
from fleet_api.callbacks.secrets import WebhookSecrets
from fleet_api.callbacks.service import Callbacks
from fleet_api.engines.building import EngineBuilds
from fleet_api.engines.shelf import EngineShelf
from fleet_api.idempotency.service import Repeats
from fleet_api.jobs.crew import Crew
from fleet_api.jobs.dispatcher import Dispatcher
from fleet_api.jobs.doors import Doors
from fleet_api.jobs.held import OpenLeases
from fleet_api.jobs.leases import LeaseService
from fleet_api.jobs.service import JobService
from fleet_api.jobs.views import JobViews
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.kit.bus import Bus
from fleet_api.kit.clock import Clock, SystemClock
from fleet_api.kit.db import Database
from fleet_api.kit.loop_service import LoopService
from fleet_api.metrics import Metrics
from fleet_api.models.catalogue import Catalogue
from fleet_api.models.fetching import Fetching
from fleet_api.models.importing import ModelImports
from fleet_api.models.scanning import Scanner as ModelScanner
from fleet_api.models.staging import Staging
from fleet_api.models.store import ModelStore
from fleet_api.models.uploads import Uploads
from fleet_api.nodes.commands import NodeCommands
from fleet_api.nodes.discovery.service import Scanner
from fleet_api.nodes.figures import FiguresStream
from fleet_api.nodes.joining import JoiningAll
from fleet_api.nodes.logs import NodeLogs
from fleet_api.nodes.onboarding import Onboarding
from fleet_api.nodes.plays import NodePlays
from fleet_api.nodes.remote import OverSsh
from fleet_api.nodes.service import NodeService
from fleet_api.operations.schedule import Schedule
from fleet_api.operations.service import OperationService
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.service import OutputService
from fleet_api.outputs.sync.service import OutputSync
from fleet_api.retention import Retention
from fleet_api.scheduled import scheduled
from fleet_api.scheduling.costs import Costs
from fleet_api.services.builds.registry import FleetRegistry
from fleet_api.services.builds.service import Builds
from fleet_api.services.clusters.service import Clusters
from fleet_api.services.clusters.work import ClusterWork
from fleet_api.services.containers.deploying import ContainerDeploying
from fleet_api.services.containers.service import Containers
from fleet_api.services.mounts import MountRules
from fleet_api.services.running.deploying import Deploying
from fleet_api.services.running.logs import ServiceLogReader
from fleet_api.services.running.service import RunningServices
from fleet_api.services.running.watching import ServiceWatch
from fleet_api.services.swarm.agents import AgentsInSwarm
from fleet_api.services.swarm.joining import SwarmJoining
from fleet_api.services.swarm.managers import Managers
from fleet_api.services.swarm.membership import Membership
from fleet_api.services.swarm.service import SwarmService
from fleet_api.settings import Settings
from fleet_api.storage.service import Storage

KEY_USE_SECONDS = 10.0
SSH_IDLE_SECONDS = 30.0
ENGINES_IDLE_SECONDS = 15.0
SERVICES_SECONDS = 2.0
UPLOADS_SECONDS = 3600.0
FETCHING_SECONDS = 1.0
THREADS = 32  # for calls that block; they wait for disks and machines, and not for processors
WATCH_SECONDS = 0.5  # a node is offline, and a lease lapses, at most this long after its time


class KeptEngines(Engines, Swept, Protocol):
    """Engines that are closed when they are idle."""


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
    output_sync: OutputSync
    jobs: JobService
    leases: LeaseService
    open_leases: OpenLeases
    dispatcher: Dispatcher
    enrolment: Enrolment
    keys: KeyService
    audit: AuditLog
    metrics: Metrics
    limits: RateLimits
    exec_limits: RateLimits
    catalogue: Catalogue
    doors: Doors
    views: JobViews
    callbacks: Callbacks
    repeats: Repeats
    vault: VaultService
    ssh: SshClient
    host_keys: HostKeys
    engines: KeptEngines
    commands: NodeCommands
    scanner: Scanner
    node_logs: NodeLogs
    operations: OperationService
    onboarding: Onboarding
    joining_all: JoiningAll
    node_plays: NodePlays
    registry: FleetRegistry
    storage: Storage
    models: ModelStore
    model_scanner: ModelScanner
    model_imports: ModelImports
    engine_shelf: EngineShelf
    engine_builds: EngineBuilds
    uploads: Uploads
    fetching: Fetching
    builds: Builds
    backups: BackupService
    schedule: Schedule
    swarm: SwarmService
    swarm_joining: SwarmJoining
    running: RunningServices
    deploying: Deploying
    service_logs: ServiceLogReader
    containers: Containers
    container_deploying: ContainerDeploying
    clusters: Clusters
    cluster_work: ClusterWork
    services: list[LoopService]


def build(
    settings: Settings, clock: Clock | None = None, plays: Plays | None = None, machines: Ssh | None = None,
    engines: KeptEngines | None = None,
) -> State:  # fmt: skip
    """Put the parts together; nothing runs yet but the database's threads. ``machines`` stands in for SSH in plays and onboarding."""
    clock = clock or SystemClock()
    db = Database(settings.database)
    bus = Bus()
    nodes = NodeService(db, clock, bus)
    vault = VaultService(db, clock, Keyring(settings.vault_folder, settings.vault_key_file))
    storage = Storage(settings, clock, vault, AllowedNetworks(settings.s3_networks))
    output_files = OutputFiles(settings.outputs)
    outputs = OutputService(db, clock, output_files, storage)
    output_sync = OutputSync(db, clock, output_files, storage)
    crew = Crew(nodes, Costs(), clock)
    jobs = JobService(db, clock, bus, nodes, crew, settings.queue_limit)
    open_leases = OpenLeases()
    dispatcher = Dispatcher(db, clock, jobs.index, open_leases, crew)
    jobs.wake = dispatcher.wake
    leases = LeaseService(db, clock, bus, nodes, jobs, open_leases, dispatcher, outputs, crew)
    keys = KeyService(db, clock)
    retention = Retention(db, clock, settings)
    enrolment = Enrolment(db, clock, nodes, partial(ca_hash, settings))
    rules = CallbackRules(settings.callback_networks, settings.callback_private == "on", {settings.port}, own_addresses)
    courier = Courier(db, clock, HttpOutClient(rules), WebhookSecrets(db, clock, vault))
    jobs.on_callback = courier.wake
    host_keys = HostKeys(db, clock)
    allowed = AllowedNetworks(settings.allowed_networks)
    ssh = SshClient(Pool(vault, host_keys, allowed, clock))
    vault.on_change.append(ssh.pool.forget_credential)
    remote = OverSsh(machines or ssh, host_keys)
    commands = NodeCommands(nodes, machines or ssh, host_keys)
    engines = engines or DockerEngines(settings.docker_host, SshWires(ssh), commands.target)
    plays = plays or AnsiblePlays(collection.root(), settings.operation_locks, {"FLEET_HOME": str(settings.home)})
    operations = OperationService(db, clock, bus, plays, settings.operations_limit)
    onboarding = Onboarding(settings, nodes, operations, vault, enrolment, remote)
    joining_all = JoiningAll(operations, onboarding, vault)
    operations.kinds.add(onboarding)
    operations.kinds.add(joining_all)
    mounts = MountRules.of(settings.mount_roots, str(settings.home), settings.docker_host)
    swarm = SwarmService(Managers(db, clock, engines, settings.swarm_manager))
    membership = Membership(swarm, nodes)
    onboarding.afterwards = membership.after_onboarding
    swarm_joining = SwarmJoining(nodes, operations, vault, onboarding, membership)
    registry = FleetRegistry(settings, vault, allowed)
    models = ModelStore(db, clock, storage, lambda kind, name: fetching.own(kind, name))
    fetching = Fetching(nodes, models, jobs.index, clock)
    models.on_change = fetching.changed
    catalogue = Catalogue(nodes, settings.default_model, models)
    model_scanner = ModelScanner(clock, storage, models)
    model_imports = ModelImports(settings.model_imports, clock, storage, models, operations)
    engine_shelf = EngineShelf(settings.engine_uploads, clock, storage, settings.engine_store_limit)
    uploads = Uploads(Staging(settings.model_uploads), models, settings.model_limit)
    service = RunningServices(swarm, nodes, mounts, registry.auth_for)
    deploying = Deploying(service, operations)
    container_deploying = ContainerDeploying(engines, nodes, operations, mounts, registry.auth_for)
    clusters = Clusters(db, clock, nodes, swarm)
    cluster_work = ClusterWork(clusters, nodes, operations, membership, swarm)
    for kind in (swarm_joining, deploying, container_deploying, cluster_work):
        operations.kinds.add(kind)
    node_plays = NodePlays(settings, nodes, operations, vault, remote, leases.free_node)
    builds = Builds(settings, nodes, operations, engines, registry, deploying)
    backups = BackupService(settings, clock, storage, operations)
    node_plays.leaving = membership.before_retiring
    node_plays.swarm = AgentsInSwarm(swarm, nodes)
    by_the_clock = scheduled(settings, node_plays, retention, outputs, output_sync, model_scanner)
    return State(
        settings=settings, clock=clock, db=db, bus=bus, nodes=nodes, figures=FiguresStream(nodes, clock),
        outputs=outputs, output_sync=output_sync, jobs=jobs, leases=leases, open_leases=open_leases,
        dispatcher=dispatcher, enrolment=enrolment, keys=keys,
        audit=AuditLog(db, clock), metrics=Metrics(),
        limits=RateLimits(clock, settings.create_per_minute, settings.create_burst), catalogue=catalogue, doors=Doors(catalogue, rules),
        views=JobViews(jobs, open_leases), callbacks=Callbacks(db, clock, courier),
        repeats=Repeats(db, clock, settings.idempotency_key_file), vault=vault, ssh=ssh, host_keys=host_keys, engines=engines,
        commands=commands, node_logs=NodeLogs(commands, machines or ssh, bus, clock),
        scanner=Scanner(NetworkProber(), clock, allowed, settings.scan_ports, nodes.by_address),
        exec_limits=RateLimits(clock, settings.exec_per_minute, settings.exec_burst, "run commands"), operations=operations,
        onboarding=onboarding, joining_all=joining_all, node_plays=node_plays, registry=registry, storage=storage, builds=builds,
        models=models, model_scanner=model_scanner, model_imports=model_imports, uploads=uploads, fetching=fetching,
        engine_shelf=engine_shelf, engine_builds=EngineBuilds(nodes, operations, clock),
        backups=backups, schedule=Schedule(db, clock, [*by_the_clock, *backups.scheduled()]),
        swarm=swarm, swarm_joining=swarm_joining, running=service,
        deploying=deploying, service_logs=ServiceLogReader(service), containers=Containers(engines, swarm.managers),
        container_deploying=container_deploying, clusters=clusters, cluster_work=cluster_work,
        services=[
            LoopService("silence", WATCH_SECONDS, nodes.check_silence),
            LoopService("reaper", WATCH_SECONDS, leases.reap),
            LoopService("look_again", WATCH_SECONDS, dispatcher.look_again),
            LoopService("key_use", KEY_USE_SECONDS, keys.flush),
            LoopService("ssh_idle", SSH_IDLE_SECONDS, ssh.pool.sweep),
            LoopService("service_watch", SERVICES_SECONDS, ServiceWatch(service, bus).look),
            LoopService("fetching", FETCHING_SECONDS, fetching.plan),
            LoopService("model_uploads", UPLOADS_SECONDS, uploads.sweep),
            LoopService("engines_idle", ENGINES_IDLE_SECONDS, engines.sweep),
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
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        stack.push_async_callback(state.db.close)
        await state.nodes.load()
        await state.swarm.managers.load()
        await state.outputs.load()
        await state.models.load()
        await state.uploads.load()
        await asyncio.to_thread(state.model_imports.sweep)
        await asyncio.to_thread(state.engine_shelf.sweep)
        state.fetching.changed()
        await state.jobs.load()
        await state.leases.load()
        stack.push_async_callback(state.audit.settled)
        stack.push_async_callback(state.keys.flush)
        stack.push_async_callback(state.output_sync.close)
        stack.push_async_callback(state.storage.close)
        stack.push_async_callback(state.repeats.settled)
        stack.push_async_callback(state.ssh.pool.close)
        stack.push_async_callback(state.engines.close)
        stack.push_async_callback(state.scanner.close)
        stack.callback(state.bus.close)
        await stack.enter_async_context(state.dispatcher.running())
        await state.operations.load()
        at_work = {name for row in state.operations.unfinished() for name in (*row.node_ids, row.request.get("ip", ""))}
        await state.nodes.free_cut_off(at_work)
        stack.push_async_callback(state.operations.stop)
        await stack.enter_async_context(state.schedule.running())
        await stack.enter_async_context(state.callbacks.courier.running())
        for service in state.services:
            await stack.enter_async_context(service.running())
        yield state
