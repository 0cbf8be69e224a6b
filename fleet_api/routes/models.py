"""Chapter: vision, its models and LoRAs."""

from __future__ import annotations

from fastapi import APIRouter

from fleet_api.deps import CallerNamed, Fleet, LoraName, ModelName, NodeId
from fleet_api.errors import documented
from fleet_api.models.kinds import CHECKPOINT, LORA
from fleet_api.models.schemas import ImportBody, LoadedModels, LoraList, ModelList, Scanned, SwitchBody, Switched
from fleet_api.models.switching import switch_model
from fleet_api.operations.schemas import OperationView
from fleet_api.outputs.schemas import Deleted

router = APIRouter(prefix="/api/vision", tags=["vision"])


@router.get("/models/available", summary="Every model")
async def models_available(fleet: Fleet) -> ModelList:
    """Return every model of the fleet, with the nodes that have it loaded."""
    return ModelList(models=fleet.catalogue.available())


@router.get("/models/loaded", summary="Loaded models")
async def models_loaded(fleet: Fleet) -> LoadedModels:
    """Return the online nodes by the model they have loaded."""
    return LoadedModels(models=fleet.catalogue.loaded())


@router.get("/loras", summary="Every LoRA")
async def loras(fleet: Fleet) -> LoraList:
    """Return every LoRA of the fleet, with the model that each is for."""
    return LoraList(loras=fleet.catalogue.available_loras())


@router.post("/models/scan", summary="Look into the buckets", responses=documented(503))
async def scan_models(fleet: Fleet) -> Scanned:
    """Find what was put straight into `fleet-models` and `fleet-loras` (or taken out), and list it with its checksum.

    A model is a folder of its name with an engine's `manifest.json`, or with one .safetensors file. It is also looked every minute.
    """
    return await fleet.model_scanner.scan()


@router.delete("/models/{name}", summary="Delete a model", responses=documented(404, 409, 503))
async def delete_model(fleet: Fleet, name: ModelName) -> Deleted:
    """Delete a model from the store; nodes drop their copies. One that came with the agents' own software stays."""
    await fleet.catalogue.delete(CHECKPOINT, name)
    return Deleted(deleted=1)


@router.delete("/loras/{name}", summary="Delete a LoRA", responses=documented(404, 409, 503))
async def delete_lora(fleet: Fleet, name: LoraName) -> Deleted:
    """Delete a LoRA from the store; nodes drop their copies. One that came with the agents' own software stays."""
    await fleet.catalogue.delete(LORA, name)
    return Deleted(deleted=1)


@router.post("/models/{name}/import", status_code=201, summary="Import a checkpoint", responses=documented(400, 404, 409, 429, 503))
async def import_model(fleet: Fleet, caller: CallerNamed, name: ModelName, body: ImportBody) -> OperationView:
    """Start an operation that makes of a stored checkpoint of SDXL (one .safetensors file) a model that nodes run, under another name."""
    return OperationView.of(await fleet.model_imports.start(name, body, caller.name))


@router.post("/models/switch/{node_id}", summary="Have a node load a model", responses=documented(400, 404, 409, 503))
async def switch(fleet: Fleet, node_id: NodeId, body: SwitchBody) -> Switched:
    """Have a node load a model: at once if it is idle, else after its job. What the queue needs later may change it again."""
    return switch_model(fleet.nodes.get(node_id), body.model, fleet.dispatcher.wake)
