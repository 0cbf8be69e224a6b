"""Playbooks on nodes of the fleet: retire, doctor, site. One operation is one run, on as many nodes as are named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.ansible.play import Outcome, Play
from fleet_api.errors import Conflict, FleetError, InvalidValue
from fleet_api.nodes import facts, progress, sweep
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.play_variables import play_variables
from fleet_api.nodes.remote import Remote
from fleet_api.nodes.service import NodeService
from fleet_api.nodes.states import NodeState
from fleet_api.nodes.targets import groups, host_variables, secrets_of
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import OperationFailed, Work
from fleet_api.settings import Settings

PLAYBOOKS = {
    "doctor": "Examine",
    "site": "Bring to its described state",
    "gpu_inference": "Give an engine to",
    "gpu_inference_remove": "Take the engine from",
    "retire": "Retire",
}
"""Playbooks that run on nodes, and how an operation of each is called."""

ASKING = ("gpu_inference", "gpu_inference_remove")
"""Those whose tasks ask a manager of the swarm where a node's agent runs in a container, or is to."""

AGENTS = "agents in the swarm"
"""What operations with a manager hold beside nodes, as any manager changes the services of all."""

INSIDE = "its agent is in a container"
LOOK_INSIDE = f"test -e /etc/fleet/container.json && echo {INSIDE!r}"
"""What the role goes by: a move that was cut off leaves this where the swarm says nothing of it."""


class SwarmSide(Protocol):
    """Who manages the swarm."""

    async def manager_for(
        self, node_ids: Sequence[str], container: bool, *, anyway: bool = False, not_first: str | None = None
    ) -> str | None:
        """Return the node to ask about the agents of these nodes, or None where none is wanted. Raises FleetError where there is none.

        ``anyway``: for nodes of a swarm also where it says that their agents are native; ``not_first`` is the last to be chosen.
        """
        ...


class NodePlays:
    """Starts operations on nodes of the fleet. One instance a process."""

    def __init__(
        self, settings: Settings, nodes: NodeService, operations: OperationService, vault: VaultService, remote: Remote,
        free_node: Callable[[str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.settings = settings
        self.nodes = nodes
        self.vault = vault
        self.remote = remote
        self.free_node = free_node
        self.leaving: Callable[[Work, str], Awaitable[None]] | None = None
        """What is done with a node before it is retired, such as taking it out of the swarm."""

        self.swarm: SwarmSide | None = None
        self._operations = operations
        for playbook in PLAYBOOKS:
            operations.kinds.add(NodePlay(self, playbook))

    async def start(
        self, playbook: str, node_ids: Sequence[str] | None, cluster: str | None, *, caller: str, checking: bool = False,
        mode: str | None = None,
    ) -> Operation:  # fmt: skip
        """Queue a playbook. Raises InvalidValue, NotFound for an unknown node, Conflict for one without a credential.

        ``mode`` is how agents run with gpu_inference; for a container it raises what is in the way, such as that no node manages the swarm.
        """
        if playbook not in PLAYBOOKS:
            raise InvalidValue(f"kind must be one of {', '.join(sorted(PLAYBOOKS))}; it is {playbook[:60]!r}.")
        if (node_ids is None) == (cluster is None):
            raise InvalidValue("Name either node_ids or cluster.")
        if mode is not None and playbook != "gpu_inference":
            raise InvalidValue(f"mode is for the kind gpu_inference alone, and this is {playbook}; leave it out.")
        found = [self.nodes.get(each) for each in dict.fromkeys(node_ids)] if node_ids else self.nodes.of_cluster(cluster or "")
        for node in found:
            if node.row.state == NodeState.RETIRED and playbook != "retire":
                raise Conflict(f"Node {node.id!r} is retired; onboard it again first: POST /api/network/join.")
            self.credential_of(node)
        request: dict[str, Any] = {"node_ids": [node.id for node in found], **({"mode": mode} if mode else {})}
        if playbook in ASKING and self.swarm is not None:
            manager = await self.swarm.manager_for(request["node_ids"], mode == "container")
            request |= {"swarm_manager": manager} if manager else {}
        return await self._operations.submit(playbook, request, caller=caller, node_ids=request["node_ids"], checking=checking)

    def credential_of(self, node: LiveNode) -> str:
        """Return the id of the credential that opens a node. Raises Conflict for a node that has none."""
        if not node.row.credential_id or not node.row.ip:
            raise Conflict(
                f"Node {node.id!r} has no credential: it enrolled by itself. Give it one: PATCH /api/nodes/{node.id} with credential_id."
            )
        return node.row.credential_id

    async def known_credential(self, named: str | None) -> str | None:
        """Return the id of a credential that is named by its id or its name; None for none. Raises NotFound for an unknown one."""
        return (await self.vault.get(named)).id if named is not None else None

    async def check_free(self, node_id: str) -> None:
        """Raise Conflict while an operation is at work on the node."""
        for row in self._operations.unfinished():
            at_work = (*row.node_ids, row.request.get("swarm_manager"))
            if row.state == "running" and node_id in at_work and row.kind != "join_all":
                raise Conflict(f"Node {node_id!r} is held by operation {row.id}; wait for its end, or cancel it.")


class NodePlay:
    """The kind of one playbook."""

    waits_only = False

    def __init__(self, plays: NodePlays, playbook: str) -> None:
        self.name = playbook
        self._plays = plays

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        named = request["node_ids"]
        return f"{PLAYBOOKS[self.name]} {', '.join(named[:3])}{f' and {len(named) - 3} more' if len(named) > 3 else ''}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`. The manager too: another operation there would end what is delegated to it.

        One such operation at a time: the services that nodes share are made and removed under a lock of one manager.
        """
        known = {node.id: node.row.ip for node in self._plays.nodes.all()}
        named = [*request["node_ids"], request.get("swarm_manager", "")]
        held = [name for node_id in named for name in (node_id, known.get(node_id, "")) if name]
        return [*held, AGENTS] if request.get("swarm_manager") else held

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        done = {node_id for node_id, state in result.get("hosts", {}).items() if state == "ok"}
        left = [node_id for node_id in request["node_ids"] if node_id not in done]
        again = {**request, "node_ids": left or request["node_ids"]}
        if self.name in ASKING and self._plays.swarm is not None:  # asked for anew: the one of before may be what was wrong
            before = again.pop("swarm_manager", None) or result.get("swarm_manager")
            container = request.get("mode") == "container"
            manager = await self._plays.swarm.manager_for(again["node_ids"], container, anyway=before is not None, not_first=before)
            again |= {"swarm_manager": manager} if manager else {}
        return again

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        work.step("connect", 1)
        try:
            play, unreached = await self._play(work)
        except FleetError as error:
            raise OperationFailed(error.detail) from error
        if self.name == "retire" and self._plays.leaving is not None and not work.checking:
            for node_id in play.hosts:
                await self._plays.leaving(work, node_id)
        try:
            async with AsyncExitStack() as stack:
                for node_id in play.hosts:
                    row = self._plays.nodes.get(node_id).row
                    following = progress.followed(self._plays.remote, work, node_id, row.ip, row.ssh_port, row.credential_id or "")
                    await stack.enter_async_context(following)
                outcome = await work.play(play) if play.hosts else Outcome(code=0)
        except asyncio.CancelledError:
            await asyncio.shield(self._clean([*play.hosts, *play.helpers]))
            raise
        outcome.hosts |= dict.fromkeys(unreached, "unreachable")
        outcome.reasons |= unreached
        work.result.update({"hosts": outcome.hosts, "stats": outcome.stats, "reasons": outcome.reasons, "reports": outcome.results})
        await self._settle(work, outcome)
        failed = sorted(node_id for node_id, state in outcome.hosts.items() if state != "ok")
        if failed:
            where = failed[0] if len(failed) == 1 else f"{len(failed)} of {len(outcome.hosts)} nodes, first {failed[0]}"
            raise OperationFailed(f"{where}: {outcome.reasons.get(failed[0]) or outcome.error or 'no reason was given'}")
        if outcome.code:
            raise OperationFailed(outcome.error or f"Ansible ended with code {outcome.code}.")

    async def _play(self, work: Work) -> tuple[Play, dict[str, str]]:
        """Return the play for the nodes that answer, and why the others do not."""
        plays = self._plays
        hosts: dict[str, dict[str, Any]] = {}
        known_hosts: list[str] = []
        secrets: frozenset[str] = frozenset()
        in_groups: dict[str, list[str]] = {}
        unreached: dict[str, str] = {}
        inside = False

        async def signed_in(node: LiveNode) -> dict[str, Any]:
            nonlocal secrets, inside
            credential_id = plays.credential_of(node)
            secret = await plays.vault.open(credential_id)
            work.journal.hide(secrets_of(secret))
            first = "true" if work.checking else sweep.command(work.id)
            first = f"{first}; {LOOK_INSIDE}" if self.name in ASKING else first
            found = await plays.remote.run(node.row.ip, node.row.ssh_port, credential_id, first, become=True)
            inside = inside or INSIDE in found.stdout
            known_hosts.append(await plays.remote.known_hosts(node.row.ip, node.row.ssh_port))
            secrets |= secrets_of(secret)
            return {**host_variables(node.row.ip, node.row.ssh_port, secret), "fleet_labels": node.row.labels}

        async def contact(node: LiveNode) -> None:
            try:
                hosts[node.id] = await signed_in(node)
                for group, members in groups(node.row.cluster, node.row.labels, node.id).items():
                    in_groups.setdefault(group, []).extend(members)
            except FleetError as error:
                unreached[node.id] = error.detail
                work.tell("unreachable", error.detail, node.id)

        await asyncio.gather(*(contact(plays.nodes.get(node_id)) for node_id in work.request["node_ids"]))
        helpers: dict[str, dict[str, Any]] = {}
        manager = work.request.get("swarm_manager") or (await self._late_manager(work, list(hosts)) if inside else None)
        if manager and hosts:
            in_groups["swarm_managers"] = [manager]
            if manager not in hosts:
                try:
                    helpers[manager] = await signed_in(plays.nodes.get(manager))
                except FleetError as error:
                    raise OperationFailed(f"{manager}, which manages the swarm, is to be asked, and cannot be: {error.detail}") from error
        variables = play_variables(plays.settings, work.id)
        if mode := work.request.get("mode"):
            variables["gpu_inference_mode"] = mode
        play = Play(self.name, hosts, in_groups, variables, "\n".join(known_hosts), secrets=secrets, helpers=helpers)
        return play, unreached

    async def _late_manager(self, work: Work, node_ids: list[str]) -> str | None:
        """Return, and hold, the node to ask where a move was cut off, which the request could not know. Raises as :meth:`_play`."""
        if self._plays.swarm is None:
            return None
        manager = await self._plays.swarm.manager_for(node_ids, False, anyway=True)
        if manager is not None:
            work.result["swarm_manager"] = manager  # a retry waits for it before it begins
            for name in self.locks({"node_ids": [], "swarm_manager": manager}):
                await work.lock(name, f"{manager}, which manages the swarm and is to be asked,")
            work.request["swarm_manager"] = manager
        return manager

    async def _clean(self, node_ids: list[str]) -> None:
        rows = [self._plays.nodes.get(node_id).row for node_id in node_ids]
        await asyncio.gather(*(sweep.clean(self._plays.remote, row.ip, row.ssh_port, row.credential_id or "") for row in rows))

    async def _settle(self, work: Work, outcome: Outcome) -> None:
        if work.checking:
            return
        for node_id, state in outcome.hosts.items():
            node = self._plays.nodes.get(node_id)
            if self.name == "retire" and state == "ok":
                await self._plays.nodes.retire(node_id)
                await self._plays.free_node(node_id)
            elif self.name in ("doctor", "site") and node.row.state == NodeState.MANAGED:
                reason = "" if state == "ok" else outcome.reasons.get(node_id, "")
                values: dict[str, Any] = {"state_reason": work.journal.clean(reason)}
                told = outcome.results.get(node_id, {}).get("fleet_facts")
                if told:
                    values["facts"], note = facts.after_look(node.row.facts, told, work.journal.clean)
                    if note:
                        work.tell("note", note, node_id)
                await self._plays.nodes.change(node_id, **values)
