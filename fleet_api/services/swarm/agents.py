"""Nodes' own agents as containers of the swarm: which manager a play about them is to ask."""

from __future__ import annotations

from collections.abc import Sequence

from fleet_api.errors import Conflict, FleetError, NotFound
from fleet_api.nodes.service import NodeService
from fleet_api.services.swarm.errors import NoManagingNode
from fleet_api.services.swarm.labels import INFERENCE
from fleet_api.services.swarm.service import Raw, SwarmService, named


class AgentsInSwarm:
    """One instance a process, used on the event loop only."""

    def __init__(self, swarm: SwarmService, nodes: NodeService) -> None:
        self._swarm = swarm
        self._nodes = nodes

    async def manager_for(self, node_ids: Sequence[str], container: bool) -> str | None:
        """Return the node to ask for agents that are to run in containers, or run in one now; None where none does.

        Raises NoSwarm, Unavailable, Conflict for a node that is not in the swarm, and NoManagingNode.
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
        if not container and not any(member and (member["Spec"].get("Labels") or {}).get(INFERENCE) for member in found.values()):
            return None
        manager = self.manager()
        if manager is None:
            raise NoManagingNode
        return manager

    def manager(self) -> str | None:
        """Return a node that manages the swarm and can be signed in to, the one that answered last before others."""
        rows = {node.id: node.row for node in self._nodes.all()}
        able = (name for name in self._swarm.managers.names() if name in rows and rows[name].ip and rows[name].credential_id)
        return next(able, None)


def _member(node_id: str, members: list[Raw]) -> Raw | None:
    try:
        return named(node_id, members)
    except (NotFound, Conflict):  # or several have its name
        return None
