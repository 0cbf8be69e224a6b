"""Chapter: vision, engines of TensorRT."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from fleet_api.deps import CallerNamed, Fleet, NodeId
from fleet_api.engines.schemas import BuildBody, EngineList
from fleet_api.errors import documented
from fleet_api.models.kinds import LORA
from fleet_api.operations.schemas import OperationView
from fleet_api.outputs.schemas import Deleted

router = APIRouter(prefix="/api/vision", tags=["vision"])

EngineKey = Annotated[str, Path(description="An engine's key", examples=["0123456789abcdef0123456789abcdef"])]


@router.get("/engines", summary="Engines of TensorRT in the store", responses=documented(503))
async def engines(fleet: Fleet) -> EngineList:
    """Return every engine that a node built and the store keeps. Nodes of the same GPU and release fetch them instead of building."""
    found = await fleet.engine_shelf.all({row.sha256: row.name for row in fleet.models.all(LORA)})
    return EngineList(engines=found, size_bytes=sum(each.size_bytes for each in found), limit_bytes=fleet.engine_shelf.limit)


@router.delete("/engines/{key}", summary="Delete an engine from the store", responses=documented(404, 503))
async def delete_engine(fleet: Fleet, key: EngineKey) -> Deleted:
    """Delete an engine from the store. Nodes that have it keep theirs."""
    await fleet.engine_shelf.remove(key)
    return Deleted(deleted=1)


@router.post(
    "/nodes/{node_id}/engines", status_code=201, summary="Have a node build engines", responses=documented(400, 404, 409, 429, 503)
)
async def build_engines(fleet: Fleet, caller: CallerNamed, node_id: NodeId, body: BuildBody) -> OperationView:
    """Start an operation after which the node has the engines of a model: fetched where another node built the same, else built there.

    Building takes minutes, in which the node takes no jobs; the job at work is finished first. Fetching goes on beside jobs.
    """
    return OperationView.of(await fleet.engine_builds.start(node_id, body, caller.name))
