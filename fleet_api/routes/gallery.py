"""Chapter: vision, the finished pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import AwareDatetime

from fleet_api.deps import Filename, Fleet, Limit, Offset
from fleet_api.errors import documented
from fleet_api.kit.fields import Text
from fleet_api.outputs.media import CACHED, media_type
from fleet_api.outputs.models import Output
from fleet_api.outputs.schemas import Deleted, Gallery, GalleryImage, OutputDetail, OutputList, OutputView, Selection
from fleet_api.outputs.search.repository import Wanted
from fleet_api.outputs.zipping import archive

router = APIRouter(prefix="/api/vision", tags=["vision"])

HEADERS = {"Cache-Control": f"private, {CACHED}", "X-Content-Type-Options": "nosniff"}
Words = Annotated[Text, Query(max_length=200)]


def _wanted(
    q: Annotated[Text, Query(max_length=500, description="Words of the prompt, or how they begin")] = "",
    model: Words = "",
    lora: Words = "",
    node: Annotated[Text, Query(max_length=64, description="Id of the node that made it")] = "",
    since: Annotated[AwareDatetime | None, Query(description="Made then or later", examples=["2026-01-31T00:00:00Z"])] = None,
    until: Annotated[AwareDatetime | None, Query(description="Made before", examples=["2026-02-01T00:00:00Z"])] = None,
    starred: Annotated[bool, Query(description="Only those with a star")] = False,
    deleted: Annotated[bool, Query(description="What is in the bin")] = False,
) -> Wanted:
    return Wanted(
        q=q, model=model, lora=lora, node_id=node, since=since.timestamp() if since else None,
        until=until.timestamp() if until else None, starred=starred, deleted=deleted,
    )  # fmt: skip


@router.get("/gallery", summary="Pictures, newest first", responses=documented(400))
async def gallery(
    fleet: Fleet,
    wanted: Annotated[Wanted, Depends(_wanted)],
    limit: Limit = 50,
    offset: Offset = 0,
    cursor: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="The ``next`` of the page before")] = None,
) -> Gallery:
    """Return a page of pictures with what made them. Pages go by ``cursor``, which new pictures do not shift, or by ``offset``."""
    page = await fleet.outputs.page(wanted, limit, offset, cursor)
    return Gallery(images=[GalleryImage.of(each) for each in page.outputs], total=page.total, next=page.cursor)


@router.get("/gallery/{filename}", summary="Everything about a picture", responses=documented(400, 404))
async def detail(fleet: Fleet, filename: Filename) -> OutputDetail:
    """Return what made an output, where its file is, its checksum, and its public address if it is in the S3 store."""
    output = await fleet.outputs.get(filename)
    return OutputDetail.detail(output, (await fleet.storage.public_urls())(output.key))


@router.put("/gallery/{filename}/star", summary="Give a picture a star", responses=documented(400, 404))
async def star(fleet: Fleet, filename: Filename) -> OutputDetail:
    """Mark an output, so that ``starred=true`` finds it."""
    await fleet.outputs.star(filename, True)
    return await detail(fleet, filename)


@router.delete("/gallery/{filename}/star", summary="Take a picture's star", responses=documented(400, 404))
async def unstar(fleet: Fleet, filename: Filename) -> OutputDetail:
    """Take the mark from an output."""
    await fleet.outputs.star(filename, False)
    return await detail(fleet, filename)


@router.post("/gallery/{filename}/restore", summary="Take a picture out of the bin", responses=documented(400, 404))
async def restore(fleet: Fleet, filename: Filename) -> OutputDetail:
    """Undo a delete of the last day."""
    await fleet.outputs.restore(filename)
    return await detail(fleet, filename)


@router.post(
    "/gallery/zip",
    summary="A zip archive of some outputs",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "The archive"}, **documented(400, 404)},
)
async def zipped(fleet: Fleet, body: Selection) -> StreamingResponse:
    """Return an archive of up to 1,000 outputs, as it is packed."""
    chosen = await fleet.outputs.some(body.filenames)
    headers = {"Content-Disposition": 'attachment; filename="fleet-outputs.zip"', "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(archive(chosen, fleet.outputs.file), media_type="application/zip", headers=headers)


@router.get("/outputs", summary="Output files, newest first", responses=documented(400))
async def outputs(fleet: Fleet, limit: Limit = 50, offset: Offset = 0) -> OutputList:
    """Return a page of output files with their size and checksum."""
    page = await fleet.outputs.page(Wanted(), limit, offset)
    url = await fleet.storage.public_urls()
    return OutputList(outputs=[OutputView.of(each, url(each.key)) for each in page.outputs], total=page.total)


@router.post("/outputs/clear", summary="Put every output into the bin")
async def clear(fleet: Fleet) -> Deleted:
    """Put every output file into the bin, from which it goes after a day; jobs stay."""
    return Deleted(deleted=await fleet.outputs.clear())


@router.get(
    "/outputs/{filename}",
    summary="One output file",
    response_class=FileResponse,
    responses={200: {"content": {"image/png": {}, "image/webp": {}}, "description": "The file"}, **documented(400, 404, 503)},
)
async def output(
    fleet: Fleet,
    filename: Filename,
    thumbnail: Annotated[bool, Query(description="A WebP of at most 256 pixels a side")] = False,
    download: Annotated[bool, Query(description="As a file to keep, not to show")] = False,
) -> FileResponse:
    """Return an output file, or its thumbnail; byte ranges are supported. One that only the S3 store has is brought from there."""
    if thumbnail:
        return FileResponse(await fleet.outputs.thumbnail(filename), media_type="image/webp", headers=HEADERS)
    found = await fleet.outputs.get(filename)
    return serve(found, await fleet.outputs.file(found), "attachment" if download else "inline")


def serve(found: Output, path: Path, disposition: Literal["attachment", "inline"]) -> FileResponse:
    """Return the answer that carries an output's file."""
    return FileResponse(
        path, media_type=media_type(found.filename), headers=HEADERS | {"ETag": f'"{found.sha256}"'}, filename=found.filename,
        content_disposition_type=disposition,
    )  # fmt: skip


@router.delete("/outputs/{filename}", summary="Delete an output", responses=documented(400, 404, 503))
async def delete_output(
    fleet: Fleet, filename: Filename, now: Annotated[bool, Query(description="Delete it for good, in the S3 store too")] = False
) -> Deleted:
    """Put an output into the bin, from which it goes after a day; its job stays. ``now`` also empties the bin of it."""
    await fleet.outputs.delete(filename, at_once=now)
    return Deleted(deleted=1)
