"""Chapter: vision, models and LoRAs on their way into the store."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from fleet_api.deps import Fleet
from fleet_api.errors import TooLarge, documented
from fleet_api.lifespan import State
from fleet_api.models.kinds import CHECKPOINT, LORA
from fleet_api.models.schemas import UploadBody, UploadView
from fleet_api.models.uploads import body_of

router = APIRouter(prefix="/api/vision", tags=["vision"])

UploadId = Annotated[str, Path(description="An upload's id", examples=["0123456789abcdef0123456789abcdef"])]
At = Annotated[int, Query(ge=0, le=2**53, description="Where the bytes that are sent begin: the upload's own offset")]
FORM = "multipart/form-data"
ERRORS = documented(400, 404, 409, 413, 503)

_SCHEMA = UploadBody.model_json_schema()
_FORM_FIELDS = {name: _SCHEMA["properties"][name] for name in ("name", "base", "source")}
BEGIN: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JSON begins an upload whose bytes follow by PATCH; a form brings the file at once",
        "content": {
            "application/json": {"schema": _SCHEMA},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}, **_FORM_FIELDS},
                }
            },
        },
    }
}
BYTES: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post("/models/upload", status_code=201, summary="Upload a model", responses=ERRORS, openapi_extra=BEGIN)
async def upload_model(fleet: Fleet, request: Request) -> UploadView:
    """Begin the upload of a checkpoint (JSON), or upload it at once (a form with `file` and `name`). Only .safetensors, by content."""
    return await _begin(fleet, request, CHECKPOINT)


@router.post("/loras/upload", status_code=201, summary="Upload a LoRA", responses=ERRORS, openapi_extra=BEGIN)
async def upload_lora(fleet: Fleet, request: Request) -> UploadView:
    """Begin the upload of a LoRA (JSON), or upload it at once (a form with `file` and `name`). Only .safetensors, by content."""
    return await _begin(fleet, request, LORA)


@router.get("/uploads/{upload_id}", summary="Where an upload stands", responses=documented(404))
async def upload(fleet: Fleet, upload_id: UploadId) -> UploadView:
    """Return how many bytes have come: go on from there."""
    return fleet.uploads.view(upload_id)


@router.patch("/uploads/{upload_id}", summary="Send bytes of an upload", responses=ERRORS, openapi_extra=BYTES)
async def send(fleet: Fleet, request: Request, upload_id: UploadId, offset: At) -> UploadView:
    """Take in bytes; those that came are kept if the connection breaks. With the last, the file is checked and stored."""
    return await fleet.uploads.append(upload_id, offset, request.stream())


@router.delete("/uploads/{upload_id}", summary="Give an upload up", responses=documented(404, 409), status_code=204)
async def abandon(fleet: Fleet, upload_id: UploadId) -> Response:
    """Forget an upload and what came of it."""
    await fleet.uploads.abandon(upload_id)
    return Response(status_code=204)


async def _begin(fleet: State, request: Request, kind: str) -> UploadView:
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith(FORM):
        return await fleet.uploads.form(kind, content_type, request.stream())
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > fleet.settings.body_limit:
            raise TooLarge(f"The request body is larger than the {fleet.settings.body_limit:,} bytes that this operation takes as JSON.")
    return await fleet.uploads.begin(kind, body_of(bytes(raw)))
