"""Chapters: swarm and fleet, the parts about containers."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from fleet_api.deps import CallerNamed, Fleet, NodeId
from fleet_api.errors import documented
from fleet_api.routes.waiting import WaitSeconds, done
from fleet_api.services.containers.schemas import (
    ContainerDone,
    ContainerList,
    ContainerLogs,
    DeployBody,
    DeployedContainer,
    NodeContainerLogs,
    RemovedContainer,
)

router = APIRouter()

ContainerId = Annotated[str, Path(description="A container's id or name", examples=["comfyui"])]
Tail = Annotated[int, Query(ge=1, le=10_000, description="Lines")]


@router.get("/api/swarm/containers", tags=["swarm"], summary="Containers of the manager", responses=documented(503))
async def list_containers(fleet: Fleet) -> ContainerList:
    """Return the containers of this machine's engine; where there is none, of the engine that manages the swarm."""
    return await fleet.containers.list()


async def _act(fleet: Fleet, container_id: str, action: Literal["restart", "stop", "start"]) -> ContainerDone:
    return await fleet.containers.act(container_id, action)


@router.post(
    "/api/swarm/containers/{container_id}/restart", tags=["swarm"], summary="Restart a container", responses=documented(404, 409, 503)
)
async def restart(fleet: Fleet, container_id: ContainerId) -> ContainerDone:
    """Restart a container of the manager; it gets 10 s to end."""
    return await _act(fleet, container_id, "restart")


@router.post("/api/swarm/containers/{container_id}/stop", tags=["swarm"], summary="Stop a container", responses=documented(404, 409, 503))
async def stop(fleet: Fleet, container_id: ContainerId) -> ContainerDone:
    """Stop a container of the manager; it gets 10 s to end."""
    return await _act(fleet, container_id, "stop")


@router.post("/api/swarm/containers/{container_id}/start", tags=["swarm"], summary="Start a container", responses=documented(404, 409, 503))
async def start(fleet: Fleet, container_id: ContainerId) -> ContainerDone:
    """Start a container of the manager that is stopped."""
    return await _act(fleet, container_id, "start")


@router.get(
    "/api/swarm/containers/{container_id}/logs", tags=["swarm"], summary="Logs of a container", responses=documented(400, 404, 409, 503)
)
async def container_logs(fleet: Fleet, container_id: ContainerId, tail: Tail = 100) -> ContainerLogs:
    """Return the last lines of a container of the manager."""
    found, text = await fleet.containers.logs(None, container_id, tail)
    return ContainerLogs(container_id=found, logs=text)


@router.post(
    "/api/fleet/deploy", status_code=201, tags=["fleet"], summary="Run a container on a node",
    responses=documented(400, 404, 409, 413, 429, 503, 504),
)  # fmt: skip
async def deploy(fleet: Fleet, caller: CallerNamed, body: DeployBody, timeout: WaitSeconds = 120.0) -> DeployedContainer:
    """Fetch the image where the node has it not, and run it. A container that ends at once is told with its exit code, and removed."""
    row = await done(fleet, (await fleet.container_deploying.start(body, caller.name)).id, timeout)
    return DeployedContainer(**row.result, operation_id=row.id)


@router.delete("/api/fleet/deploy/{node_id}/{container_name}", tags=["fleet"], summary="Remove a container of a node",
               responses=documented(404, 409, 503, 504))  # fmt: skip
async def undeploy(fleet: Fleet, node_id: NodeId, container_name: Annotated[str, Path(examples=["myapp"])]) -> RemovedContainer:
    """Remove a container of a node, running or not."""
    return RemovedContainer(status="removed", node_id=node_id, name=await fleet.containers.remove(node_id, container_name))


@router.get("/api/fleet/logs/{node_id}/{container_name}", tags=["fleet"], summary="Logs of a container of a node",
            responses=documented(400, 404, 409, 503, 504))  # fmt: skip
async def node_logs(
    fleet: Fleet, node_id: NodeId, container_name: Annotated[str, Path(examples=["myapp"])], tail: Tail = 100
) -> NodeContainerLogs:
    """Return the last lines of a container of a node."""
    _, text = await fleet.containers.logs(node_id, container_name, tail)
    return NodeContainerLogs(node_id=node_id, container=container_name, logs=text)
