"""Chapter: nodes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from fleet_api.deps import CallerNamed, Fleet, NodeId
from fleet_api.errors import documented
from fleet_api.nodes.bodies import NodeBody, NodeChange
from fleet_api.nodes.jetpack import JetPackView
from fleet_api.nodes.schemas import Heartbeat, HeartbeatList, NodeDetail, NodeList, NodeView
from fleet_api.operations.schemas import Started

router = APIRouter(prefix="/api/nodes", tags=["nodes"])


@router.get("", summary="Every node")
async def list_nodes(fleet: Fleet, details: Annotated[bool, Query(description="With labels, facts and models")] = False) -> NodeList:
    """Return every node by name, with its last figures; percentages run from 0 to 100."""
    return NodeList(nodes=[(NodeDetail if details else NodeView).of(node) for node in fleet.nodes.all()])


@router.post("", status_code=201, summary="Register a node", responses=documented(400, 404, 409, 413, 429))
async def add_node(fleet: Fleet, body: NodeBody) -> NodeDetail:
    """Note a machine as discovered; ``POST /api/network/join`` makes it a node that takes work."""
    body = body.model_copy(update={"credential_id": await fleet.node_plays.known_credential(body.credential_id)})
    return NodeDetail.of(await fleet.nodes.add(body))


@router.get("/heartbeats", summary="When each node was last heard")
async def heartbeats(fleet: Fleet) -> HeartbeatList:
    """Return when each node was last heard, with its GPU figures."""
    return HeartbeatList(heartbeats=[Heartbeat.of(node, fleet.clock.now()) for node in fleet.nodes.all()])


@router.get("/jetpack", summary="JetPack of every node")
async def jetpack_of_all(fleet: Fleet) -> dict[str, JetPackView]:
    """Return the JetPack, L4T, CUDA and cuDNN releases of each node; null where a node has none, or has not been looked at."""
    return {node.id: JetPackView.of(node) for node in fleet.nodes.all()}


@router.get("/{node_id}", summary="One node", responses=documented(404))
async def get_node(fleet: Fleet, node_id: NodeId) -> NodeDetail:
    """Return a node with its labels, facts, models, job types, and the services that run on it."""
    node = fleet.nodes.get(node_id)
    return NodeDetail.of(node, await fleet.running.names_on(node_id))


@router.get("/{node_id}/jetpack", summary="JetPack of a node", responses=documented(404))
async def jetpack(fleet: Fleet, node_id: NodeId) -> JetPackView:
    """Return the JetPack, L4T, CUDA and cuDNN releases of a node; null where it has none, or has not been looked at."""
    return JetPackView.of(fleet.nodes.get(node_id))


@router.patch("/{node_id}", summary="Change a node", responses=documented(400, 404, 409, 413))
async def change_node(fleet: Fleet, node_id: NodeId, body: NodeChange) -> NodeDetail:
    """Change a node's address, credential, cluster or labels; labels are replaced as a whole."""
    fleet.nodes.get(node_id)
    values = body.model_dump(exclude_unset=True)
    if {"ip", "ssh_port", "credential_id"} & values.keys():
        await fleet.node_plays.check_free(node_id)  # an operation cleans up where it worked
    if "credential_id" in values:
        values["credential_id"] = await fleet.node_plays.known_credential(body.credential_id)
    if values.get("cluster") == "":
        values["cluster"] = None
    return NodeDetail.of(await fleet.nodes.change(node_id, **values) if values else fleet.nodes.get(node_id))


@router.delete("/{node_id}", summary="Forget a node", responses=documented(404, 409), status_code=204)
async def remove_node(fleet: Fleet, node_id: NodeId) -> Response:
    """Forget a node and revoke its agent's credential; what it held is queued again. Its finished jobs and pictures stay.

    Nothing changes on the machine itself; ``POST /api/nodes/{node_id}/retire`` leaves it as it was found.
    """
    await fleet.node_plays.check_free(node_id)
    row = fleet.nodes.get(node_id).row
    await fleet.nodes.remove(node_id)
    await fleet.leases.free_node(node_id)
    await fleet.commands.forget(row)
    return Response(status_code=204)


@router.post("/{node_id}/retire", status_code=201, summary="Retire a node", responses=documented(400, 404, 409, 429))
async def retire_node(
    fleet: Fleet, caller: CallerNamed, node_id: NodeId, check: Annotated[bool, Query(description="A plan: change nothing")] = False
) -> Started:
    """Take the node out of work and leave the machine as it was found before it was onboarded."""
    row = await fleet.node_plays.start("retire", [node_id], None, caller=caller.name, checking=check)
    return Started(status=row.state, message=row.title, operation_id=row.id)
