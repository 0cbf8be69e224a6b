"""Changes of clusters, each an operation ``cluster``: made, grown, shrunk, taken apart."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from fleet_api.errors import Conflict, FleetError, InvalidValue
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.service import NodeService
from fleet_api.nodes.states import NodeState
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import Work
from fleet_api.services.clusters.models import Cluster
from fleet_api.services.clusters.schemas import ClusterBody
from fleet_api.services.clusters.service import Clusters
from fleet_api.services.swarm.errors import NoSwarm
from fleet_api.services.swarm.labels import NODE
from fleet_api.services.swarm.membership import Membership, check_agent
from fleet_api.services.swarm.service import SwarmService

CLUSTER = "cluster"
TITLES = {"create": "Make cluster", "add": "Add to cluster", "remove": "Take out of cluster", "delete": "Take apart cluster"}


class ClusterWork:
    """The kind ``cluster``, and the doors that ask for it."""

    name = CLUSTER
    waits_only = False

    def __init__(
        self, clusters: Clusters, nodes: NodeService, operations: OperationService, membership: Membership, swarm: SwarmService
    ) -> None:
        self._clusters = clusters
        self._nodes = nodes
        self._operations = operations
        self._membership = membership
        self._swarm = swarm

    async def create(self, body: ClusterBody, force: bool, caller: str) -> Operation:
        """Queue a new cluster. Raises Conflict for a taken name or a node of another cluster, NotFound for an unknown node."""
        await self._clusters.check_free(body.name)
        for row in self._operations.unfinished():
            if row.kind == CLUSTER and row.request["action"] == "create" and row.request["name"] == body.name:
                raise Conflict(f"name: cluster {body.name!r} is being made already, by operation {row.id}.")
        manager = body.manager_node_id or body.node_ids[0]
        members = list(dict.fromkeys([manager, *body.node_ids]))
        for node_id in members:
            self._check_addable(self._nodes.get(node_id), body.name)
        return await self._submit("create", body.name, members, caller, manager=manager, force=force)

    async def add(self, cluster: str, node_id: str, force: bool, caller: str) -> Operation:
        """Queue a node's joining. Raises NotFound, Conflict for a node of another cluster."""
        row = await self._clusters.row(cluster)
        self._check_addable(self._nodes.get(node_id), row.name)
        return await self._submit("add", row.name, [node_id], caller, force=force)

    async def remove(self, cluster: str, node_id: str, caller: str) -> Operation:
        """Queue a node's leaving. Raises NotFound, Conflict for one that is not a member, or manages others."""
        row = await self._clusters.row(cluster)
        if self._nodes.get(node_id).row.cluster != row.name:
            raise Conflict(f"Node {node_id} is not in cluster {row.name!r}.")
        others = [node.id for node in self._clusters.members(row.name) if node.id != node_id]
        if row.manager_node_id == node_id and others:
            raise Conflict(
                f"Node {node_id} manages cluster {row.name!r}, which has other nodes; take those out first, or the whole cluster."
            )
        return await self._submit("remove", row.name, [node_id], caller)

    async def delete(self, cluster: str, cleanup: bool, caller: str) -> Operation:
        """Queue a cluster's end. Raises NotFound, and Conflict where its nodes cannot leave the swarm."""
        row = await self._clusters.row(cluster)
        members = [node.id for node in self._clusters.members(row.name)]
        if cleanup:
            await self._check_can_leave(row.name, members)
        return await self._submit("delete", row.name, members, caller, cleanup=cleanup)

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        nodes = f": {', '.join(request['node_ids'][:3])}" if request["action"] in ("add", "remove") else ""
        return f"{TITLES[request['action']]} {request['name']}{nodes}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`."""
        return [*request["node_ids"], f"cluster {request['name']}"]

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        action = {"create": self._create, "add": self._add, "remove": self._remove, "delete": self._delete}[work.request["action"]]
        try:
            await action(work)
        except FleetError as error:
            raise work.failed(error) from error

    async def _create(self, work: Work) -> None:
        request = work.request
        row = await self._left_behind(work) or await self._clusters.add(request["name"], request["manager"])
        try:
            await self._add(work)
        except BaseException:  # no half of a cluster stays; who has joined the swarm meanwhile stays in that
            for node in self._clusters.members(row.name):
                await self._nodes.change(node.id, cluster=None)
                with contextlib.suppress(FleetError):
                    await self._membership.label(node.id)
            await self._clusters.remove(row)
            raise
        work.result["cluster_id"] = row.id

    async def _left_behind(self, work: Work) -> Cluster | None:
        """Return the row that an earlier try left, which ended with the control plane; None for a first one."""
        if work.operation.retry_of is None:
            return None
        rows = await self._clusters.rows()
        return next((row for row in rows if (row.name, row.manager_node_id) == (work.request["name"], work.request["manager"])), None)

    async def _add(self, work: Work) -> None:
        request = work.request
        if request["action"] == "add":
            await self._clusters.keep(await self._clusters.row(request["name"]))
        for number, node_id in enumerate(request["node_ids"], 1):
            await self._joined(work, node_id)
            work.step(f"{number} of {len(request['node_ids'])} nodes", 100.0 * number / len(request["node_ids"]))

    async def _joined(self, work: Work, node_id: str) -> None:
        request = work.request
        node = self._nodes.get(node_id)
        self._check_addable(node, request["name"])  # again: it may have become another cluster's while this waited
        before = node.row.cluster
        await self._nodes.change(node_id, cluster=request["name"])
        try:
            await self._membership.ensure(
                node_id, lambda text: work.tell("step", text, node_id), force=request["force"], form_on=request.get("manager") or node_id
            )
        except BaseException:
            await self._nodes.change(node_id, cluster=before)
            raise

    async def _remove(self, work: Work) -> None:
        for node_id in work.request["node_ids"]:
            await self._out(work, node_id)

    async def _out(self, work: Work, node_id: str) -> None:
        """Drain, take the label away, and let the node take other tasks, also where this is cancelled or fails."""
        name = work.request["name"]
        if self._nodes.get(node_id).row.cluster != name:
            raise Conflict(f"Node {node_id} is not in cluster {name!r} any more.")
        try:
            in_swarm = await self._drained(work, node_id)
            await self._nodes.change(node_id, cluster=None)
            if in_swarm:
                await self._membership.label(node_id)
        except BaseException:
            await asyncio.shield(self._takes_tasks(node_id))
            raise
        if in_swarm:
            await self._membership.undrain(node_id)

    async def _drained(self, work: Work, node_id: str) -> bool:
        """Drain a node, and say whether it is in the swarm at all."""
        try:
            await self._membership.drain(node_id, lambda text: work.tell("step", text, node_id))
        except FleetError as error:
            if error.status in (503, 504):
                raise
            return False
        return True

    async def _takes_tasks(self, node_id: str) -> None:
        with contextlib.suppress(FleetError):
            await self._membership.undrain(node_id)

    async def _delete(self, work: Work) -> None:
        request = work.request
        row = await self._clusters.row(request["name"])
        if request["cleanup"]:
            await self._check_can_leave(row.name, request["node_ids"])
            for number, node_id in enumerate(await self._workers_first(request["node_ids"]), 1):
                await self._membership.leave(node_id, lambda text, node=node_id: work.tell("step", text, node))  # type: ignore[misc]
                await self._nodes.change(node_id, cluster=None)
                work.step(f"{number} of {len(request['node_ids'])} nodes", 100.0 * number / len(request["node_ids"]))
        else:
            for node_id in request["node_ids"]:
                await self._nodes.change(node_id, cluster=None)
                try:
                    await self._membership.label(node_id)
                except FleetError as error:
                    work.tell("note", error.detail, node_id)
        await self._clusters.remove(row)
        work.result["cluster_id"] = row.id

    async def _submit(self, action: str, name: str, node_ids: list[str], caller: str, **more: Any) -> Operation:
        request = {"action": action, "name": name, "node_ids": node_ids, "force": False, **more}
        return await self._operations.submit(CLUSTER, request, caller=caller, node_ids=node_ids)

    def _check_addable(self, node: LiveNode, name: str) -> None:
        if node.row.cluster not in (None, "", name):
            raise Conflict(f"Node {node.id} is in cluster {node.row.cluster!r}; take it out of there first.")
        if node.row.state != NodeState.MANAGED:
            raise Conflict(f"Node {node.id} is {node.row.state}; onboard it first: POST /api/network/join.")
        if not node.row.credential_id or not node.row.ip:
            raise InvalidValue(f"node_ids: {node.id} cannot be reached over SSH; give it an address and a credential first.")

    async def _check_can_leave(self, name: str, members: list[str]) -> None:
        try:
            nodes = (await self._swarm.raw_nodes()).value
        except NoSwarm:
            return
        leaving = [node for node in nodes if (node["Spec"].get("Labels") or {}).get(NODE) in members]
        for node in leaving:
            check_agent(node["Spec"]["Labels"][NODE], node)
        staying = [node for node in nodes if node not in leaving]
        if staying and not any(node["Spec"]["Role"] == "manager" for node in staying):
            raise Conflict(
                f"Cluster {name!r} holds every manager of a swarm that has {len(staying)} other members; make one of those a manager first."
            )

    async def _workers_first(self, node_ids: list[str]) -> list[str]:
        try:
            nodes = (await self._swarm.raw_nodes()).value
        except NoSwarm:
            return node_ids
        heads = {(node["Spec"].get("Labels") or {}).get(NODE) for node in nodes if node["Spec"]["Role"] == "manager"}
        leader = {(node["Spec"].get("Labels") or {}).get(NODE) for node in nodes if (node.get("ManagerStatus") or {}).get("Leader")}
        return sorted(node_ids, key=lambda node_id: (node_id in heads, node_id in leader))
