"""Chapter: clusters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from fleet_api.deps import CallerNamed, Fleet, NodeId
from fleet_api.errors import documented
from fleet_api.routes.waiting import WaitSeconds, done
from fleet_api.services.clusters.schemas import ClusterBody, ClusterGone, ClusterStatus, ClusterView

router = APIRouter(prefix="/api/clusters", tags=["clusters"])

ClusterId = Annotated[str, Path(description="A cluster's id or name", examples=["vision"])]
Force = Annotated[bool, Query(description="A member of another swarm leaves it")]
ERRORS = documented(400, 404, 409, 413, 429, 503, 504)


@router.get("", summary="Every cluster")
async def list_clusters(fleet: Fleet) -> list[ClusterView]:
    """Return every cluster by name, as it is now."""
    return await fleet.clusters.every()


@router.post("", status_code=201, summary="Make a cluster", responses=ERRORS)
async def create(fleet: Fleet, caller: CallerNamed, body: ClusterBody, force: Force = False, timeout: WaitSeconds = 120.0) -> ClusterView:
    """Bring nodes into the swarm under one name. Where there is no swarm, the manager forms one."""
    row = await done(fleet, (await fleet.cluster_work.create(body, force, caller.name)).id, timeout)
    return (await fleet.clusters.view(body.name)).model_copy(update={"operation_id": row.id})


@router.get("/{cluster_id}/status", summary="A cluster with its nodes", responses=documented(404))
async def status(fleet: Fleet, cluster_id: ClusterId) -> ClusterStatus:
    """Return a cluster with its nodes and their figures."""
    return await fleet.clusters.status(cluster_id)


@router.post("/{cluster_id}/nodes/{node_id}", status_code=201, summary="Add a node to a cluster", responses=ERRORS)
async def add_node(
    fleet: Fleet, caller: CallerNamed, cluster_id: ClusterId, node_id: NodeId, force: Force = False, timeout: WaitSeconds = 120.0
) -> ClusterView:
    """Bring a node into the swarm, and label it as one of the cluster."""
    row = await done(fleet, (await fleet.cluster_work.add(cluster_id, node_id, force, caller.name)).id, timeout)
    return (await fleet.clusters.view(cluster_id)).model_copy(update={"operation_id": row.id})


@router.delete("/{cluster_id}/nodes/{node_id}", summary="Take a node out of a cluster", responses=documented(404, 409, 503, 504))
async def remove_node(
    fleet: Fleet, caller: CallerNamed, cluster_id: ClusterId, node_id: NodeId, timeout: WaitSeconds = 120.0
) -> ClusterView:
    """Drain a node, then take it out of the cluster. It stays in the swarm."""
    before = await fleet.clusters.row(cluster_id)
    row = await done(fleet, (await fleet.cluster_work.remove(cluster_id, node_id, caller.name)).id, timeout)
    await fleet.clusters.keep(before)
    return (await fleet.clusters.view(before.name)).model_copy(update={"operation_id": row.id})


@router.delete("/{cluster_id}", summary="Take a cluster apart", responses=documented(400, 404, 409, 503, 504))
async def delete(
    fleet: Fleet,
    caller: CallerNamed,
    cluster_id: ClusterId,
    cleanup_swarm: Annotated[bool, Query(description="Its nodes leave the swarm")] = False,
    timeout: WaitSeconds = 120.0,
) -> ClusterGone:
    """Remove a cluster; its nodes stay in the swarm, unless ``cleanup_swarm`` makes them leave it."""
    found = await fleet.clusters.row(cluster_id)
    row = await done(fleet, (await fleet.cluster_work.delete(cluster_id, cleanup_swarm, caller.name)).id, timeout)
    return ClusterGone(status="removed", id=found.id, name=found.name, operation_id=row.id)
