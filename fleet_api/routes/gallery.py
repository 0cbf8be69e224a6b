"""Chapter: vision, the finished pictures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from fleet_api.deps import Filename, Fleet, Limit, Offset
from fleet_api.errors import documented
from fleet_api.outputs.schemas import Deleted, Gallery, GalleryImage, OutputList, OutputView

router = APIRouter(prefix="/api/vision", tags=["vision"])

IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@router.get("/gallery", summary="Pictures, newest first", responses=documented(400))
async def gallery(fleet: Fleet, limit: Limit = 50, offset: Offset = 0) -> Gallery:
    """Return a page of pictures with what made them; ``next`` is the offset of the next page, or null."""
    outputs, total = await fleet.outputs.page(limit, offset)
    following = offset + len(outputs)
    return Gallery(images=[GalleryImage.of(each) for each in outputs], total=total, next=following if following < total else None)


@router.get("/outputs", summary="Output files, newest first", responses=documented(400))
async def outputs(fleet: Fleet, limit: Limit = 50, offset: Offset = 0) -> OutputList:
    """Return a page of output files with their size and checksum."""
    found, total = await fleet.outputs.page(limit, offset)
    return OutputList(outputs=[OutputView.of(each) for each in found], total=total)


@router.post("/outputs/clear", summary="Delete every output")
async def clear(fleet: Fleet) -> Deleted:
    """Delete every output file; jobs stay."""
    return Deleted(deleted=await fleet.outputs.clear())


@router.get(
    "/outputs/{filename}",
    summary="One output file",
    response_class=FileResponse,
    responses={200: {"content": {"image/png": {}, "image/webp": {}}, "description": "The file"}, **documented(400, 404)},
)
async def output(
    fleet: Fleet, filename: Filename, thumbnail: Annotated[bool, Query(description="A WebP of at most 256 pixels a side")] = False
) -> FileResponse:
    """Return an output file, or its thumbnail; byte ranges are supported."""
    path = await fleet.outputs.find(filename, thumbnail)
    return FileResponse(path, media_type="image/webp" if thumbnail else "image/png", headers=IMMUTABLE)


@router.delete("/outputs/{filename}", summary="Delete an output", responses=documented(400, 404))
async def delete_output(fleet: Fleet, filename: Filename) -> Deleted:
    """Delete an output file; its job stays."""
    await fleet.outputs.delete(filename)
    return Deleted(deleted=1)
