"""Commands on nodes, by their ids: one at once or many beside each other, and the host keys of nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

import structlog

from fleet_api.access.host_keys import HostKeys
from fleet_api.adapters.ssh.errors import CommandTimeout, HostKeyChanged
from fleet_api.adapters.ssh.types import Result, Ssh, Target
from fleet_api.errors import Conflict, FleetError
from fleet_api.kit.allowed import plain_address
from fleet_api.nodes.models import Node
from fleet_api.nodes.service import NodeService
from fleet_api.nodes.states import NodeState

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. ``timeout`` in seconds, for each node by itself."""

    command: str
    timeout: float = 60.0
    become: bool = False
    stdin: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an order on one node: a result, or an error with what was printed before it."""

    node_id: str
    host: str
    result: Result | None
    error: FleetError | None = None


class NodeCommands:
    """One instance a process, used on the event loop only."""

    def __init__(self, nodes: NodeService, ssh: Ssh, host_keys: HostKeys) -> None:
        self._nodes = nodes
        self._ssh = ssh
        self._host_keys = host_keys

    def target(self, node_id: str) -> Target:
        """Return how a node is reached. Raises NotFound, and Conflict for one without an address or a credential."""
        row = self._nodes.get(node_id).row
        if not row.ip:
            raise Conflict(f"Node {node_id!r} has no address; set it with PATCH /api/nodes/{node_id}.")
        if not row.credential_id:
            raise Conflict(f"Node {node_id!r} has no credential for SSH; set credential_id with PATCH /api/nodes/{node_id}.")
        return Target(row.ip, row.ssh_port, row.credential_id, node_id=node_id)

    async def run(self, node_id: str, order: Order) -> Outcome:
        """Run an order on one node. Raises as :meth:`target`, and what SSH raises."""
        target = self.target(node_id)
        stdin = order.stdin.encode() if order.stdin is not None else None
        try:
            result = await self._ssh.run(target, order.command, timeout=order.timeout, stdin=stdin, become=order.become)
        except HostKeyChanged as error:
            await self._note_changed(node_id, error)
            raise
        return Outcome(node_id, target.host, result)

    async def run_on_all(self, node_ids: Sequence[str], order: Order) -> AsyncGenerator[Outcome]:
        """Run an order on many nodes at once; yield each outcome as it comes. Raises NotFound, before anything runs.

        What still runs when the generator is closed is ended.
        """
        for node_id in node_ids:
            self._nodes.get(node_id)
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._outcome(node_id, order)) for node_id in dict.fromkeys(node_ids)]
        try:
            for ended in asyncio.as_completed(tasks):
                yield await ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def accept_host_key(self, name: str, fingerprint: str, by: str) -> str:
        """Pin the key that a node, or a machine named by its address, showed last; return the address.

        Raises NotFound, and Conflict unless the key has this fingerprint.
        """
        place = _address_of(name)
        if place is None or await self._host_keys.get(*place) is None:
            row = self._nodes.get(name).row
            place = row.ip, row.ssh_port
        await self._host_keys.accept(*place, fingerprint, by)
        self._ssh.forget(*place)
        node = self._nodes.at(*place)
        if node is not None and node.row.state == NodeState.HOST_KEY_CHANGED:
            await self._nodes.change(node.id, state=NodeState.MANAGED, state_reason="")
        return place[0]

    async def forget(self, row: Node) -> None:
        """Close what is open to a node that was removed, and forget its host key, so that the machine may come back installed anew."""
        others = [node for node in self._nodes.all() if node.id != row.id and (node.row.ip, node.row.ssh_port) == (row.ip, row.ssh_port)]
        if row.ip and not others:
            await self._host_keys.forget(row.ip, row.ssh_port)
            self._ssh.forget(row.ip, row.ssh_port)

    async def _outcome(self, node_id: str, order: Order) -> Outcome:
        try:
            return await self.run(node_id, order)
        except FleetError as error:
            so_far = error.so_far if isinstance(error, CommandTimeout) else None
            return Outcome(node_id, self._nodes.get(node_id).row.ip, so_far, error)
        except Exception:
            log.exception("command_broke", node=node_id)
            return Outcome(node_id, "", None, FleetError("The control plane failed at this; its log tells more."))

    async def _note_changed(self, node_id: str, error: HostKeyChanged) -> None:
        if self._nodes.get(node_id).row.state == NodeState.MANAGED:
            reason = f"Its SSH host key changed from {error.pinned} to {error.shown}."
            await self._nodes.change(node_id, state=NodeState.HOST_KEY_CHANGED, state_reason=reason)


def _address_of(name: str) -> tuple[str, int] | None:
    """Return address and port of ``192.0.2.10`` or ``192.0.2.10:2222``; None for what is no address."""
    host, _, port = name.partition(":") if name.count(":") == 1 else (name, "", "22")
    try:
        return str(plain_address(host)), int(port)
    except ValueError:
        return None


def failed(outcomes: Iterable[Outcome]) -> int:
    """Return on how many nodes an order failed."""
    return sum(outcome.error is not None or outcome.result is None or not outcome.result.ok for outcome in outcomes)
