"""What agents call to fetch stored models. The messages are in ``gpu_inference/protocol.py``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Header, Path
from fastapi.responses import StreamingResponse

from fleet_api.deps import Agent, Fleet
from fleet_api.errors import InvalidValue, documented
from gpu_inference.protocol import SourceReply, SourceRequest

router = APIRouter(prefix="/api/agents/models", tags=["agents"])

Kind = Annotated[str, Path(description="checkpoint or lora", examples=["lora"])]
StoredName = Annotated[str, Path(description="The name of a model or LoRA in the store", examples=["night"])]
File = Annotated[str, Path(description="One of its files", examples=["night.safetensors"])]
Wanted = Annotated[str | None, Header(alias="Range", description="Such as bytes=1048576-")]
_RANGE = re.compile(r"bytes=(\d{1,16})-")
BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.post("/source", summary="Where to fetch a file from", responses=documented(400, 401, 404))
async def source(fleet: Fleet, node: Agent, body: SourceRequest) -> SourceReply:
    """Answer with a neighbour that has the file, with the store, or with how long to wait."""
    fleet.fetching.check(body)
    return fleet.fetching.sources.choose(node, body)


@router.get(
    "/{kind}/{name}/{file}",
    summary="A file of a stored model",
    response_class=StreamingResponse,
    responses={
        200: {**BYTES, "description": "The file"},
        206: {**BYTES, "description": "From a byte on"},
        **documented(400, 401, 404, 503),
    },
)
async def stored_file(fleet: Fleet, node: Agent, kind: Kind, name: StoredName, file: File, wanted: Wanted = None) -> StreamingResponse:
    """Send a file of the store, from the byte on that ``Range`` names."""
    store, bucket, key, size = await fleet.models.place_of(kind, name, file)
    start = 0
    if wanted is not None:
        found = _RANGE.fullmatch(wanted)
        if found is None or int(found[1]) >= size:
            raise InvalidValue(f"Range: only bytes=N- with N below the {size} bytes of the file is served.")
        start = int(found[1])
    headers = {"Content-Length": str(size - start), "Accept-Ranges": "bytes"}
    if start:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    stack = ExitStack()
    chunks = await asyncio.to_thread(stack.enter_context, store.open(bucket, key, start))
    fleet.fetching.served[kind, name, file] += 1
    return StreamingResponse(closing(chunks, stack), 206 if start else 200, headers, "application/octet-stream")


def closing(chunks: Iterator[bytes], stack: ExitStack) -> Iterator[bytes]:
    """Yield the chunks, and let go of where they come from after the last."""
    with stack:
        yield from chunks
