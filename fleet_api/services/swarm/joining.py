"""A machine into the swarm, from nothing: the operation ``swarm_join``. It onboards what is missing, joins, and labels."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from fleet_api.access.vault.service import VaultService
from fleet_api.errors import Conflict, FleetError
from fleet_api.nodes.bodies import JoinBody
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.onboarding import Onboarding
from fleet_api.nodes.service import NodeService
from fleet_api.nodes.states import NodeState
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.states import OperationState
from fleet_api.operations.work import OperationFailed, Work
from fleet_api.services.swarm.membership import Membership
from fleet_api.services.swarm.schemas import JoinRemoteBody

SWARM_JOIN = "swarm_join"
ONBOARDING_SECONDS = 3600.0


class SwarmJoining:
    """The kind ``swarm_join``, and the door that asks for it. Its onboarding is an operation of its own."""

    name = SWARM_JOIN
    waits_only = True

    def __init__(
        self, nodes: NodeService, operations: OperationService, vault: VaultService, onboarding: Onboarding, membership: Membership
    ) -> None:
        self._nodes = nodes
        self._operations = operations
        self._vault = vault
        self._onboarding = onboarding
        self._membership = membership

    async def start(self, body: JoinRemoteBody, force: bool, caller: str) -> Operation:
        """Queue it. Raises NotFound for an unknown credential, Conflict while the machine is on its way already."""
        for row in self._operations.unfinished():
            if row.kind == SWARM_JOIN and (row.request["ip"], row.request["ssh_port"]) == (body.node_ip, body.ssh_port):
                raise Conflict(f"node_ip: {body.node_ip} joins already, by operation {row.id}; wait for its end, or cancel it.")
        known = self._nodes.at(body.node_ip, body.ssh_port)
        request = {
            "ip": body.node_ip, "ssh_port": body.ssh_port, "credential_id": await self._credential(body), "cluster": body.cluster,
            "role": body.role, "force": force, "caller": caller,
        }  # fmt: skip
        return await self._operations.submit(SWARM_JOIN, request, caller=caller, node_ids=[known.id] if known else [])

    async def _credential(self, body: JoinRemoteBody) -> str:
        """Return the credential: the one named, else one of the vault for this user and machine that holds this password.

        A password that nodes use is not replaced: this one was not tried yet, and may be wrong.
        """
        if body.credential_id is not None:
            return (await self._vault.get(body.credential_id)).id
        assert body.username is not None
        assert body.password is not None
        secrets = {"password": body.password.get_secret_value()}
        name = f"{body.username} @ {body.node_ip}".replace(":", "-").replace("\\", "-").replace("$", "")[:100]
        for number in itertools.count(1):
            numbered = name if number == 1 else f"{name[:90]} ({number})"
            try:
                return (await self._vault.add(numbered, body.username, secrets)).id
            except Conflict:
                held = await self._vault.open(numbered)
            if (held.username, held.password) == (body.username, secrets["password"]):
                return held.credential_id
            if not await self._vault.nodes_with(held.credential_id):
                return (await self._vault.change(held.credential_id, None, body.username, secrets)).id
        raise AssertionError

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        return f"Bring {request['ip']} into the swarm"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`."""
        return []

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        request = work.request
        node = self._nodes.at(request["ip"], request["ssh_port"])
        try:
            if node is None or node.row.state != NodeState.MANAGED:
                node = await self._onboarded(work)
            work.nodes([node.id])
            await work.lock(node.id)
            member = await self._as_asked(node, work)
        except FleetError as error:
            raise work.failed(error) from error
        work.result.update({"node_id": node.id, "swarm_node_id": member, "cluster": self._nodes.get(node.id).row.cluster})

    async def _as_asked(self, node: LiveNode, work: Work) -> str:
        """Bring a node into the swarm with the credential and cluster of the request; it keeps its own where that does not work."""
        request = work.request
        own = {"credential_id": node.row.credential_id, "cluster": node.row.cluster}
        asked = {"credential_id": request["credential_id"], "cluster": request["cluster"] or node.row.cluster}
        if asked != own:
            await self._nodes.change(node.id, **asked)
        work.step("swarm", 80)
        try:
            return await self._membership.ensure(
                node.id, lambda text: work.tell("step", text, node.id), role=request["role"], force=request["force"]
            )
        except BaseException:
            if asked != own:
                await asyncio.shield(self._nodes.change(node.id, **own))
            raise

    async def _onboarded(self, work: Work) -> LiveNode:
        request = work.request
        body = JoinBody(ip=request["ip"], ssh_port=request["ssh_port"], credential_id=request["credential_id"], cluster=request["cluster"])
        work.step("onboard", 5)
        part = await self._onboarding.join(body, request["caller"], parent_id=work.id)
        work.tell("step", f"Onboarding is operation {part.id}")
        row = await self._operations.wait(part.id, ONBOARDING_SECONDS)
        node = self._nodes.at(request["ip"], request["ssh_port"])
        if row.state != OperationState.SUCCEEDED and (node is None or node.row.state != NodeState.MANAGED):
            raise OperationFailed(row.reason or f"Its onboarding, operation {row.id}, is {row.state}.")
        if node is None:
            raise OperationFailed("The machine was removed from the fleet meanwhile; join it again.")
        return node
