"""Chapter: nodes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from fleet_api.deps import Fleet, NodeId
from fleet_api.errors import documented
from fleet_api.nodes.schemas import Heartbeat, HeartbeatList, NodeDetail, NodeList, NodeView

router = APIRouter(prefix="/api/nodes", tags=["nodes"])


@router.get("", summary="Every node")
async def list_nodes(fleet: Fleet) -> NodeList:
    """Return every node by name, with its last figures; percentages run from 0 to 100."""
    return NodeList(nodes=[NodeView.of(node) for node in fleet.nodes.all()])


@router.get("/heartbeats", summary="When each node was last heard")
async def heartbeats(fleet: Fleet) -> HeartbeatList:
    """Return when each node was last heard, with its GPU figures."""
    return HeartbeatList(heartbeats=[Heartbeat.of(node, fleet.clock.now()) for node in fleet.nodes.all()])


@router.get("/{node_id}", summary="One node", responses=documented(404))
async def get_node(fleet: Fleet, node_id: NodeId) -> NodeDetail:
    """Return a node with its labels, facts, models and job types."""
    return NodeDetail.of(fleet.nodes.get(node_id))


@router.delete("/{node_id}", summary="Retire a node", responses=documented(404), status_code=204)
async def remove_node(fleet: Fleet, node_id: NodeId) -> Response:
    """Forget a node and revoke its agent's credential; what it held is queued again. Its finished jobs and pictures stay."""
    await fleet.nodes.remove(node_id)
    await fleet.leases.free_node(node_id)
    return Response(status_code=204)
