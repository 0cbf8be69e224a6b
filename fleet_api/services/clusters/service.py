"""Clusters as they are: rows of the table, and names that nodes were given without one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import Connection

from fleet_api.errors import Conflict, FleetError, NotFound
from fleet_api.kit.clock import Clock, rfc3339
from fleet_api.kit.db import Database
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.schemas import NodeView
from fleet_api.nodes.service import NodeService
from fleet_api.services.clusters import repository
from fleet_api.services.clusters.models import Cluster
from fleet_api.services.clusters.schemas import ClusterNode, ClusterStatus, ClusterView
from fleet_api.services.swarm.service import Raw, SwarmService, by_node

UNNAMED = uuid.UUID("2f4c3f0e-6d1e-4b0b-9d5a-3a1f4f1f9b11")
"""Where ids of clusters without a row come from: the same name, the same id."""


class Clusters:
    """One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock, nodes: NodeService, swarm: SwarmService) -> None:
        self._db = db
        self._clock = clock
        self._nodes = nodes
        self._swarm = swarm

    async def rows(self) -> list[Cluster]:
        """Return every cluster by name; those too that are but a word at their nodes."""
        rows = {row.name: row for row in await self._db.read(repository.every)}
        for node in self._nodes.all():
            if node.row.cluster and node.row.cluster not in rows:
                name = node.row.cluster
                rows[name] = Cluster(id=str(uuid.uuid5(UNNAMED, name)), name=name, created_at=node.row.created_at)
        return [rows[name] for name in sorted(rows)]

    async def row(self, name: str) -> Cluster:
        """Return a cluster by its id or name. Raises NotFound."""
        rows = await self.rows()
        found = next((row for row in rows if name in (row.id, row.name)), None)
        if found is None:
            known = ", ".join(row.name for row in rows[:20]) or "none yet"
            raise NotFound(f"There is no cluster {name!r}; the clusters are: {known}.")
        return found

    def members(self, name: str) -> list[LiveNode]:
        """Return the nodes of a cluster by name; none for an empty one."""
        return [node for node in self._nodes.all() if node.row.cluster == name]

    async def every(self) -> list[ClusterView]:
        """Return every cluster as it is now."""
        raw = await self._raw()
        return [self._view(row, raw) for row in await self.rows()]

    async def view(self, name: str) -> ClusterView:
        """Return one cluster as it is now. Raises NotFound."""
        return self._view(await self.row(name), await self._raw())

    async def status(self, name: str) -> ClusterStatus:
        """Return a cluster with its nodes. Raises NotFound."""
        row, raw = await self.row(name), await self._raw()
        members = self.members(row.name)
        there = by_node(raw or [])
        shown = [
            ClusterNode(
                node_id=node.id, status=view.status, cpu=view.cpu, memory=view.memory, gpu=view.gpu,
                is_manager=node.id == row.manager_node_id,
                swarm_status=there[node.id]["Status"]["State"] if node.id in there else None,
            )
            for node, view in ((node, NodeView.of(node)) for node in members)
        ]  # fmt: skip
        online = sum(node.online for node in members)
        return ClusterStatus(cluster=self._view(row, raw), nodes=shown, online_count=online, total_count=len(members))

    async def add(self, name: str, manager_node_id: str) -> Cluster:
        """Make a cluster's row. Raises Conflict for a name that is taken."""
        row = Cluster(id=str(uuid.uuid4()), name=name, manager_node_id=manager_node_id, created_at=self._clock.now())

        def store(db: Connection) -> None:
            if repository.by_name(db, name) is not None:
                raise Conflict(f"name: there is a cluster {name!r} already; choose another name, or add nodes to that one.")
            repository.add(db, row)

        await self._db.write(store)
        return row

    async def check_free(self, name: str) -> None:
        """Raise Conflict for a name that is taken, by a row or by nodes."""
        if any(row.name == name for row in await self.rows()):
            raise Conflict(f"name: there is a cluster {name!r} already; choose another name, or add nodes to that one.")

    async def remove(self, row: Cluster) -> None:
        """Delete a cluster's row; its nodes' rows are another's to change."""
        await self._db.write(lambda db: repository.remove(db, row.id))

    async def keep(self, row: Cluster) -> None:
        """Give a row to a cluster that is but a word at its nodes."""
        if not any(each.id == row.id for each in await self._db.read(repository.every)):
            await self._db.write(lambda db: repository.add(db, row))

    def _view(self, row: Cluster, raw: Sequence[Raw] | None) -> ClusterView:
        members = self.members(row.name)
        wrong = self._wrong(members, raw)
        status = "empty" if not members else "degraded" if wrong else "active"
        return ClusterView(
            id=row.id, name=row.name, cluster_type=row.cluster_type, node_ids=[node.id for node in members],
            manager_node_id=row.manager_node_id if any(node.id == row.manager_node_id for node in members) else None,
            status=status, reason="; ".join(wrong[:5]) or None, created_at=rfc3339(row.created_at),
        )  # fmt: skip

    def _wrong(self, members: Sequence[LiveNode], raw: Sequence[Raw] | None) -> list[str]:
        there = by_node(raw or [])
        found = []
        for node in members:
            member = there.get(node.id)
            if node.status != "online":
                found.append(f"{node.id} is {node.status}")
            elif raw is None:
                found.append("the swarm's managers do not answer")
            elif member is None:
                found.append(f"{node.id} is not in the swarm")
            elif member["Status"]["State"] != "ready":
                found.append(f"{node.id} is {member['Status']['State']} in the swarm")
            elif member["Spec"].get("Availability", "active") != "active":
                found.append(f"{node.id} takes no tasks ({member['Spec']['Availability']})")
        return list(dict.fromkeys(found))

    async def _raw(self) -> list[Raw] | None:
        """Return the swarm's members; an empty list without a swarm, None where nobody can tell now."""
        try:
            found = await self._swarm.raw_nodes()
        except Conflict:
            return []
        except FleetError:
            return None
        return None if found.why else found.value
