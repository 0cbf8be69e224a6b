"""From a bare machine to a managed node: the operation ``onboard``, one machine each.

First contact pins the host key, proves the credential and sudo, and says which machine it is, before Ansible is started at all; the
play installs and configures; the agent's first beat is the proof.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fleet_api.access.enrolment import Enrolment
from fleet_api.access.listening import public_url
from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.ansible.play import Outcome, Play
from fleet_api.adapters.ssh.errors import HostKeyChanged, Unreachable
from fleet_api.errors import Conflict, FleetError, Unavailable
from fleet_api.nodes import facts as facts_of
from fleet_api.nodes import progress, sweep
from fleet_api.nodes.bodies import JoinBody, NodeBody
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.naming import free_id
from fleet_api.nodes.play_variables import play_variables
from fleet_api.nodes.probe import COMMAND, Contact
from fleet_api.nodes.remote import Remote
from fleet_api.nodes.service import NodeService
from fleet_api.nodes.states import NodeState
from fleet_api.nodes.targets import groups, host_variables, secrets_of
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import OperationFailed, Work
from fleet_api.settings import Settings

ONBOARD = "onboard"
STEPS = ("validate_inventory", "node_baseline", "ssh_trust", "jetson", "docker_engine", "node_agent")
"""The roles of the playbook, in its order."""

TOKEN_SECONDS = 3600.0
AGENT_SECONDS = 60.0
"""How long the agent may take to its first beat: it starts in 2 s here, on a Jetson from a card in some 15."""


class Onboarding:
    """The kind ``onboard``, and the doors that ask for it. One instance a process."""

    name = ONBOARD
    waits_only = False

    def __init__(
        self,
        settings: Settings,
        nodes: NodeService,
        operations: OperationService,
        vault: VaultService,
        enrolment: Enrolment,
        remote: Remote,
    ) -> None:
        self._settings = settings
        self._nodes = nodes
        self._operations = operations
        self._vault = vault
        self._enrolment = enrolment
        self._remote = remote
        self.afterwards: Callable[[Work, str], Awaitable[None]] | None = None
        """What else is done with a node once it is managed, such as bringing it into the swarm."""

    async def join(self, body: JoinBody, caller: str, *, checking: bool = False, parent_id: str | None = None) -> Operation:
        """Queue a machine. Raises NotFound for an unknown credential, Conflict while it is on its way, Unavailable for a loopback API."""
        self.check_reachable()
        body = body.model_copy(update={"credential_id": (await self._vault.get(body.credential_id)).id})
        for row in self._operations.unfinished():
            if row.kind == ONBOARD and (row.request["ip"], row.request["ssh_port"]) == (body.ip, body.ssh_port):
                raise Conflict(f"ip: {body.ip} is being onboarded already, by operation {row.id}; wait for its end, or cancel it.")
        known = self._nodes.at(body.ip, body.ssh_port)
        return await self._operations.submit(
            ONBOARD, body.model_dump(), caller=caller, node_ids=[known.id] if known else [], checking=checking, parent_id=parent_id
        )

    def coming(self, ssh_port: int) -> frozenset[str]:
        """Return the addresses of machines that are queued or being onboarded."""
        rows = (row for row in self._operations.unfinished() if row.kind == ONBOARD)
        return frozenset(row.request["ip"] for row in rows if row.request["ssh_port"] == ssh_port)

    # -- the kind

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        return f"Onboard {request['ip']}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`."""
        known = self._nodes.at(request["ip"], request["ssh_port"])
        return [request["ip"], *([known.id] if known else [])]

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        body = JoinBody.model_validate(work.request)
        contact = await self._contact(work, body)
        node = await self._identify(work, body, contact)
        before = NodeState(node.row.state)
        try:
            if not work.checking and before != NodeState.MANAGED:
                node = await self._nodes.change(node.id, state=NodeState.INSTALLING, state_reason="")
            await self._install(work, body, node)
        except OperationFailed as error:
            await self._unsettle(work, node.id, before, str(error))
            raise
        except FleetError as error:
            await self._unsettle(work, node.id, before, error.detail)
            raise OperationFailed(error.detail) from error
        except asyncio.CancelledError:
            await self._unsettle(work, node.id, before, "Its onboarding was cut off; retry it.")
            raise
        if self.afterwards is not None and not work.checking:
            await self.afterwards(work, node.id)

    async def _contact(self, work: Work, body: JoinBody) -> Contact:
        work.step("connect", 1)
        work.tell("step", f"Connecting to {body.ip} port {body.ssh_port}")
        try:
            self.check_reachable()
            work.journal.hide(secrets_of(await self._vault.open(body.credential_id)))
            self._remote.forget(body.ip, body.ssh_port)
            said = await self._remote.run(body.ip, body.ssh_port, body.credential_id, COMMAND)
            contact = Contact.of(said.stdout)
            refusal = contact.refusal()
            if refusal:
                raise OperationFailed(refusal)
            await self._remote.run(body.ip, body.ssh_port, body.credential_id, "true", become=True)
        except FleetError as error:
            known = self._nodes.at(body.ip, body.ssh_port)
            if known is not None and isinstance(error, HostKeyChanged):
                await self._nodes.change(known.id, state=NodeState.HOST_KEY_CHANGED, state_reason=error.detail)
            raise OperationFailed(error.detail) from error
        work.tell("step", f"This is {contact.hostname}, {contact.arch}, with Python {'.'.join(map(str, contact.python or ()))}")
        return contact

    async def _identify(self, work: Work, body: JoinBody, contact: Contact) -> LiveNode:
        """Return the node that this machine is: the one at its address, else one that has moved here, else a new one."""
        known = self._nodes.at(body.ip, body.ssh_port) or await self._moved(work, contact)
        if known is not None and body.node_id not in (None, known.id):
            raise OperationFailed(f"This machine is node {known.id!r} already; join it under that name, or remove that node first.")
        values: dict[str, Any] = {"ip": body.ip, "ssh_port": body.ssh_port, "credential_id": body.credential_id}
        if body.cluster:
            values["cluster"] = body.cluster
        if body.labels:
            values["labels"] = dict(body.labels)
        if known is None:
            taken = {node.id for node in self._nodes.all()}
            name = body.node_id or free_id(contact.hostname, taken)
            if work.checking:
                raise OperationFailed(f"This machine is not in the fleet yet; a plan wants a node: POST /api/nodes first (as {name!r}).")
            try:
                made = NodeBody(
                    id=name, hostname=contact.hostname or name, ip=body.ip, ssh_port=body.ssh_port,
                    credential_id=body.credential_id, cluster=body.cluster, labels=body.labels,
                )  # fmt: skip
                known = await self._nodes.add(made)
            except FleetError as error:
                raise OperationFailed(error.detail) from error
            await work.lock(known.id)
        elif not work.checking:
            await work.lock(known.id)
            if known.row.machine_id and known.row.machine_id != contact.machine_id:
                work.tell("note", f"Another machine than before answers as node {known.id}: what was known of the old one is dropped.")
                values["facts"] = {}
            known = await self._nodes.change(known.id, **values)
        if not work.checking and known.row.machine_id != contact.machine_id:
            known = await self._nodes.change(known.id, machine_id=contact.machine_id)
        work.nodes([known.id])
        return known

    async def _moved(self, work: Work, contact: Contact) -> LiveNode | None:
        """Return the node that this machine was at another address, where nothing answers any more; else None."""
        for node in self._nodes.of_machine(contact.machine_id):
            if node.row.hostname == contact.hostname and not await self._answers(node):
                return node
            work.tell("note", f"Node {node.id} has this machine's id too, as copied disks have; this machine becomes a node of its own.")
        return None

    async def _answers(self, node: LiveNode) -> bool:
        if not node.row.ip or not node.row.credential_id:
            return node.online
        try:
            await self._remote.run(node.row.ip, node.row.ssh_port, node.row.credential_id, "true")
        except Unreachable:
            return False
        except FleetError:
            return True
        return True

    async def _install(self, work: Work, body: JoinBody, node: LiveNode) -> None:
        if not work.checking:
            await self._remote.run(body.ip, body.ssh_port, body.credential_id, sweep.command(work.id), become=True)
        play = await self._play(work, body, node)
        try:
            async with progress.followed(self._remote, work, node.id, body.ip, body.ssh_port, body.credential_id):
                outcome = await work.play(play)
        except asyncio.CancelledError:
            await asyncio.shield(sweep.clean(self._remote, body.ip, body.ssh_port, body.credential_id))
            raise
        work.result.update({"hosts": outcome.hosts, "stats": outcome.stats, "reasons": outcome.reasons})
        await self._vault.used(body.credential_id)
        self._settled(outcome, node.id)
        facts = outcome.results.get(node.id, {}).get("fleet_facts")
        if work.checking:
            return
        work.step("agent", 95)
        await self._wait_for_agent(work, node.id)
        changes: dict[str, Any] = {"state": NodeState.MANAGED, "state_reason": ""}
        if facts:
            changes["facts"], note = facts_of.after_look(self._nodes.get(node.id).row.facts, facts, work.journal.clean)
            if note:
                work.tell("note", note, node.id)
        await self._nodes.change(node.id, **changes)

    async def _play(self, work: Work, body: JoinBody, node: LiveNode) -> Play:
        secret = await self._vault.open(body.credential_id)
        token = "" if work.checking else await self._enrolment.token(node.id, TOKEN_SECONDS)
        variables = {
            **host_variables(body.ip, body.ssh_port, secret),
            "fleet_enrolment_token": token,
            "fleet_enrolment_renew": not node.online or node.row.credential_hash is None,
            "fleet_labels": node.row.labels,
        }
        return Play(
            playbook=ONBOARD,
            hosts={node.id: variables},
            groups=groups(node.row.cluster, node.row.labels, node.id),
            variables=play_variables(self._settings, work.id),
            known_hosts=await self._remote.known_hosts(body.ip, body.ssh_port),
            steps=STEPS,
            secrets=secrets_of(secret) | ({token} if token else frozenset()),
        )

    def _settled(self, outcome: Outcome, node_id: str) -> None:
        if not outcome.good:
            raise OperationFailed(outcome.reasons.get(node_id) or outcome.error or f"Ansible ended with code {outcome.code}.")

    async def _wait_for_agent(self, work: Work, node_id: str) -> None:
        work.tell("step", "Waiting for the agent's first beat", node_id)
        try:
            async with asyncio.timeout(AGENT_SECONDS):
                await self._nodes.until_online(node_id)
        except TimeoutError:
            raise OperationFailed(
                f"The agent was installed but did not call {public_url(self._settings, self._settings.port)} within "
                f"{AGENT_SECONDS:.0f} s: see 'journalctl -u fleet-agent' on the node, and whether it reaches that address."
            ) from None

    async def _unsettle(self, work: Work, node_id: str, before: NodeState, reason: str) -> None:
        """Take the state back: a node that was managed is degraded, any other one is discovered again."""
        if not work.checking:
            state = before if before in (NodeState.MANAGED, NodeState.HOST_KEY_CHANGED) else NodeState.DISCOVERED
            await asyncio.shield(self._nodes.change(node_id, state=state, state_reason=work.journal.clean(reason)))

    def check_reachable(self) -> None:
        """Raise Unavailable where nodes could not call the control plane."""
        if not self._settings.reachable:
            raise Unavailable(
                "Nodes could not call this control plane, which listens on loopback alone: start it with FLEET_HOST set to an address "
                "of this machine (0.0.0.0 is all of them), or name the address that nodes call in FLEET_ADVERTISE_URL."
            )
