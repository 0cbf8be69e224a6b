"""Nodes: registration, beats, liveness."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterator
from typing import Any

import structlog
from sqlalchemy import Connection

from fleet_api.errors import Conflict, NotFound, Unauthorized
from fleet_api.kit.bus import Bus
from fleet_api.kit.clock import Clock
from fleet_api.kit.crypto import fingerprint
from fleet_api.kit.db import Database, DatabaseUnusable
from fleet_api.nodes import repository
from fleet_api.nodes.bodies import NodeBody
from fleet_api.nodes.discovery.devices import KnownNode
from fleet_api.nodes.facts import with_beat
from fleet_api.nodes.live import SILENT_SECONDS, LiveNode
from fleet_api.nodes.models import Node
from fleet_api.nodes.naming import free_id, reserved
from fleet_api.nodes.schemas import NodeView
from fleet_api.nodes.states import NodeState
from fleet_api.scheduling.types import Skills, Worker
from gpu_inference.protocol import Beat, Capabilities

log = structlog.get_logger()

CUT_OFF = "Its onboarding was cut off; retry it."
SAVE_SECONDS = 30.0
"""Figures in the table may be this old; the ones in memory are always the last."""


class NodeService:
    """Keeps the live view of every node. One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock, bus: Bus) -> None:
        self._db = db
        self._clock = clock
        self._bus = bus
        self._live: dict[str, LiveNode] = {}
        self._by_credential: dict[str, str] = {}
        self._arrivals: dict[str, asyncio.Event] = {}
        self._offers, self._offered_bytes = Skills(), dict[str, int]()
        self.on_new_incarnation: Callable[[str, str], Awaitable[None]] | None = None

    async def load(self) -> None:
        """Read every node from the table."""
        for row in await self._db.read(repository.every):
            self._put(row)

    async def free_cut_off(self, at_work: Container[str]) -> None:
        """Set nodes back to discovered whose onboarding ended with the control plane; ``at_work`` are nodes and addresses in operations."""
        for node in list(self._live.values()):
            if node.row.state == NodeState.INSTALLING and node.id not in at_work and node.row.ip not in at_work:
                await self.change(node.id, state=NodeState.DISCOVERED, state_reason=CUT_OFF)

    async def reload(self, node_id: str) -> None:
        """Read one node again after its row changed."""
        row = await self._db.read(lambda db: repository.get(db, node_id))
        if row is not None:
            self._put(row)

    def register(
        self, db: Connection, hostname: str, machine_id: str, ip: str, credential_hash: str, now: float, wanted: str | None = None
    ) -> str:
        """Inside a write: add the machine, or give the node that the token names a new credential. Returns the node id.

        ``wanted`` is the id that its token names: whatever machine had it is replaced. Only such a token replaces a node: another
        machine may have the same machine id (disks copied from one image), and becomes a node of its own unless its host name is
        the same too. Raises Conflict then, and for a machine that is a node of another id than the token names.
        """
        known = repository.by_machine(db, machine_id)
        if known is not None and known.id != wanted and (wanted is not None or known.hostname == hostname):
            raise Conflict(f"This machine is already node {known.id!r}; make a token for that node: fleet enrol {known.id}")
        known = repository.get(db, wanted) if wanted else None
        if known is not None:
            values: dict[str, Any] = {"hostname": hostname, "machine_id": machine_id, "credential_hash": credential_hash}
            if known.credential_id is None:  # else it is where SSH finds it, which another address may hide
                values["ip"] = ip
            if known.machine_id != machine_id:  # another board, or the same one written anew: nothing that was known holds
                values |= {"facts": {}, "capabilities": {}, "metrics": {}}
            repository.change(db, known.id, **values)
            return known.id
        node_id = wanted or free_id(hostname, {node.id for node in repository.every(db)})
        repository.add(
            db, Node(id=node_id, hostname=hostname, machine_id=machine_id, ip=ip, credential_hash=credential_hash, created_at=now)
        )
        return node_id

    def authenticate(self, credential: str | None) -> LiveNode:
        """Return the node that holds this credential. Raises Unauthorized."""
        node_id = self._by_credential.get(fingerprint(credential)) if credential else None
        if node_id is None:
            raise Unauthorized("The agent's credential is missing or unknown; enrol the agent again.")
        return self._live[node_id]

    def get(self, node_id: str) -> LiveNode:
        """Return one node. Raises NotFound."""
        node = self._live.get(node_id)
        if node is None:
            names = ", ".join(sorted(self._live)) or "none yet"
            raise NotFound(f"There is no node {node_id!r}; the nodes are: {names}.")
        return node

    def all(self) -> list[LiveNode]:
        """Return every node by name."""
        return [self._live[node_id] for node_id in sorted(self._live)]

    def offer(self, skills: Skills, model_bytes: dict[str, int]) -> None:
        """Tell every node what the model store has for it, and how large its models are."""
        self._offers, self._offered_bytes = skills, model_bytes
        for node in self._live.values():
            node.offers, node.offered_bytes = skills, model_bytes
            node.learn(node.capabilities)

    def workers(self) -> Iterator[Worker]:
        """Yield every enrolled agent as the scheduler sees it, online or not."""
        return (node.worker for node in self._live.values() if node.row.credential_hash)

    async def arrived(self, node: LiveNode, incarnation: str, capabilities: Capabilities | None = None) -> None:
        """Note a sign of life. A new incarnation frees what the old one held; capabilities are kept when they changed."""
        node.heard = self._clock.monotonic()
        node.last_seen = self._clock.now()
        changes: dict[str, Any] = {}
        if node.row.incarnation != incarnation:
            changes["incarnation"] = incarnation
        if capabilities is not None and capabilities != node.capabilities:
            changes["capabilities"] = capabilities.model_dump()
        if changes:
            last_seen = node.last_seen
            await self._db.write(lambda db: repository.change(db, node.id, last_seen=last_seen, **changes))
            node.row.incarnation = incarnation
        if "incarnation" in changes:
            node.agent_state = "idle"  # what the agent before it said last, as that it is stopping, is not true of this one
        if capabilities is not None:
            node.learn(capabilities)
        if "incarnation" in changes and self.on_new_incarnation is not None:
            await self.on_new_incarnation(node.id, incarnation)
        if not node.online:
            node.online = True
            self._announce(node)
            if node.id in self._arrivals:
                self._arrivals.pop(node.id).set()

    async def until_online(self, node_id: str) -> None:
        """Return once the node's agent is heard. Raises NotFound."""
        if not self.get(node_id).online:
            await self._arrivals.setdefault(node_id, asyncio.Event()).wait()

    async def beat(self, node: LiveNode, beat: Beat) -> None:
        """Take in the node's figures."""
        await self.arrived(node, beat.incarnation, beat.capabilities)
        before = (node.loaded_model, node.agent_state)
        node.has(beat.loaded_model, beat.warm_models, beat.parked_models)
        node.agent_state = beat.state
        if node.worker.idle:
            node.worker.model = beat.loaded_model  # as when an engine comes up while its agent's poll is open
        if beat.metrics is not None:
            before_memory = node.memory
            node.feel(beat.metrics)
            if node.memory != before_memory:
                node.learn(node.capabilities)
        if beat.facts is not None:
            node.row.facts = with_beat(node.row.facts, beat.facts)
        if beat.metrics is not None or before != (node.loaded_model, node.agent_state):
            self._announce(node)
        now = self._clock.monotonic()
        if beat.facts is not None or now - node.saved_at > SAVE_SECONDS:
            node.saved_at = now
            values = {"last_seen": node.last_seen, "metrics": node.metrics.model_dump(), "facts": node.row.facts}
            try:
                await self._db.write(lambda db: repository.change(db, node.id, **values))
            except DatabaseUnusable as error:
                log.warning("figures_not_saved", node=node.id, reason=error.detail)

    def took(self, node_id: str, job_id: str, attempt: int) -> None:
        """Note that the node holds an attempt."""
        node = self._live.get(node_id)
        if node is not None:
            node.jobs[job_id] = attempt

    def freed(self, node_id: str, job_id: str) -> None:
        """Note that the node no longer holds the job."""
        node = self._live.get(node_id)
        if node is not None:
            node.jobs.pop(job_id, None)

    async def add(self, body: NodeBody) -> LiveNode:
        """Register a machine that was not onboarded yet. Raises Conflict for an id or address that is taken."""
        now = self._clock.now()
        name = body.hostname or body.id or body.ip.replace(".", "-").replace(":", "-")

        def store(db: Connection) -> str:
            every = repository.every(db)
            taken = {node.id for node in every}
            if reserved(body.id):
                raise Conflict(f"id: {body.id!r} is a reserved word; choose another id.")
            if body.id in taken:
                raise Conflict(f"id: there is a node {body.id!r} already; choose another id, or change that node with PATCH.")
            for node in every:
                if node.ip == body.ip and node.ssh_port == body.ssh_port and node.state != NodeState.RETIRED:
                    raise Conflict(f"ip: {body.ip} is node {node.id!r} already; change that node with PATCH.")
            node_id = body.id or free_id(name, taken)
            repository.add(
                db,
                Node(
                    id=node_id, hostname=body.hostname or node_id, ip=body.ip, ssh_port=body.ssh_port, credential_id=body.credential_id,
                    cluster=body.cluster, labels=dict(body.labels), state=NodeState.DISCOVERED, created_at=now,
                ),
            )  # fmt: skip
            return node_id

        node_id = await self._db.write(store)
        await self.reload(node_id)
        node = self.get(node_id)
        self._announce(node)
        return node

    async def change(self, node_id: str, **values: Any) -> LiveNode:
        """Set columns of a node's row and tell of it. Raises NotFound."""
        self.get(node_id)
        await self._db.write(lambda db: repository.change(db, node_id, **values))
        await self.reload(node_id)
        node = self.get(node_id)
        self._announce(node)
        return node

    def at(self, ip: str, port: int) -> LiveNode | None:
        """Return the node that SSH finds at this address: an agent in a container there has the same address, and no credential."""
        there = (node for node in self._live.values() if (node.row.ip, node.row.ssh_port) == (ip, port))
        return max(there, key=_by_ssh, default=None)

    def by_address(self) -> dict[str, KnownNode]:
        """Return what a scan wants to know of the nodes, by the address where SSH finds each."""
        there = sorted((node for node in self.all() if node.row.ip and node.row.state != NodeState.RETIRED), key=_by_ssh)
        return {node.row.ip: KnownNode(node.id, node.row.hostname, _is_jetson(node.row.facts)) for node in there}

    def of_machine(self, machine_id: str) -> list[LiveNode]:
        """Return the nodes with this machine id, several where disks were copied; an empty id matches nothing."""
        return [node for node in self._live.values() if machine_id and node.row.machine_id == machine_id]

    def of_cluster(self, cluster: str) -> list[LiveNode]:
        """Return the nodes of a cluster by name. Raises NotFound for a cluster without nodes."""
        found = [node for node in self.all() if node.row.cluster == cluster]
        if not found:
            names = ", ".join(sorted({node.row.cluster for node in self._live.values() if node.row.cluster})) or "none yet"
            raise NotFound(f"There is no cluster {cluster!r}; the clusters are: {names}.")
        return found

    async def retire(self, node_id: str) -> None:
        """Take a node out of work: its agent's credential is void, and no job may wait for it. It stays in the list. Raises NotFound."""
        node = self.get(node_id)
        node.online = False
        node.learn(Capabilities())
        await self.change(node_id, state=NodeState.RETIRED, state_reason="", credential_hash=None, capabilities={})

    async def remove(self, node_id: str) -> None:
        """Forget a node: its row and its agent's credential are gone when this returns. Raises NotFound."""
        self.get(node_id)
        await self._db.write(lambda db: repository.remove(db, node_id))
        self._live.pop(node_id, None)
        self._by_credential = {digest: node for digest, node in self._by_credential.items() if node != node_id}
        self._bus.publish("node_removed", {"node_id": node_id})

    async def check_silence(self) -> None:
        """Mark nodes offline that missed three beats; they are told on the bus within a second of it."""
        now = self._clock.monotonic()
        for node in self._live.values():
            if node.online and (node.heard is None or now - node.heard > SILENT_SECONDS):
                node.online = False
                self._announce(node)

    def _put(self, row: Node) -> None:
        known = self._live.get(row.id)
        if known is None:
            node = self._live[row.id] = LiveNode.from_row(row)
            node.offers, node.offered_bytes = self._offers, self._offered_bytes
            node.learn(node.capabilities)
        else:
            known.renew(row)
        self._by_credential = {n.row.credential_hash: n.id for n in self._live.values() if n.row.credential_hash}

    def _announce(self, node: LiveNode) -> None:
        self._bus.publish("node_update", lambda: NodeView.of(node).model_dump(mode="json"))


def _by_ssh(node: LiveNode) -> bool:
    """Say whether there is a credential to reach a node by SSH."""
    return node.row.credential_id is not None


def _is_jetson(facts: dict[str, Any]) -> bool | None:
    return bool(facts["is_jetson"]) if "is_jetson" in facts else None
