"""Nodes' own agents as containers of the swarm: which manager a play about them is to ask."""

from __future__ import annotations

from collections.abc import Sequence

from fleet_api.errors import Conflict, FleetError, NotFound
from fleet_api.nodes.service import NodeService
from fleet_api.services.swarm.errors import NoManagingNode
from fleet_api.services.swarm.labels import INFERENCE, NODE
from fleet_api.services.swarm.service import Raw, SwarmService, by_node, named


class AgentsInSwarm:
    """One instance a process, used on the event loop only."""

    def __init__(self, swarm: SwarmService, nodes: NodeService) -> None:
        self._swarm = swarm
        self._nodes = nodes

    async def manager_for(
        self, node_ids: Sequence[str], container: bool, *, anyway: bool = False, not_first: str | None = None
    ) -> str | None:
        """Return the node to ask for agents that are to run in containers, or run in one now; None where none does.

        ``anyway``: also where no label says so, as a move that was cut off leaves a node in between. ``not_first`` is asked only where
        there is no other. Raises NoSwarm, Unavailable, Conflict for a node that is not in the swarm, and NoManagingNode.
        """
        if not container and self._swarm.managers.swarm is None:
            return None
        try:
            members = (await self._swarm.raw_nodes()).value
        except FleetError:
            if container:
                raise
            return None  # the role looks itself, and says what it lacks
        found = {node_id: _member(node_id, members) for node_id in node_ids}
        if container and None in found.values():
            outside = next(node_id for node_id, member in found.items() if member is None)
            raise Conflict(
                f"Node {outside} is not in the swarm, which containers of the agent want; bring it in first, by a cluster "
                f"(POST /api/clusters), or choose the mode native."
            )
        wanted = container or any(member and (member["Spec"].get("Labels") or {}).get(INFERENCE) for member in found.values())
        if not wanted and not (anyway and any(found.values())):
            return None
        manager = self._able(members, not_first)
        if manager is None and wanted:
            raise NoManagingNode
        return manager

    def _able(self, members: list[Raw], not_first: str | None) -> str | None:
        """Return a node that manages the swarm, is there and can be signed in to, the one that answered last before others."""
        there = {
            (each["Spec"].get("Labels") or {}).get(NODE)
            for each in members
            if (each.get("ManagerStatus") or {}).get("Reachability") == "reachable"
        }
        rows = {node.id: node.row for node in self._nodes.all()}
        able = [name for name in self._swarm.managers.names() if name in there and name in rows]
        able = [name for name in able if rows[name].ip and rows[name].credential_id]
        return min(able, key=lambda name: name == not_first, default=None)


def _member(node_id: str, members: list[Raw]) -> Raw | None:
    ours = by_node(members).get(node_id)
    if ours is not None:
        return ours
    try:
        return named(node_id, members)
    except (NotFound, Conflict):  # or several machines have its name
        return None
