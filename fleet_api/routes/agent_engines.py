"""What agents call to give engines of TensorRT, and to fetch them. The messages are in ``gpu_inference/protocol_engines.py``."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from fleet_api.deps import Agent, Fleet
from fleet_api.errors import InvalidValue, documented
from fleet_api.routes.agent_models import BYTES, closing
from fleet_api.routes.vision_engines import EngineKey
from gpu_inference.protocol import DIGEST_HEADER
from gpu_inference.protocol_engines import EngineOffer, OfferReply

router = APIRouter(prefix="/api/agents/engines", tags=["agents"])


@router.post("", summary="Offer an engine", responses=documented(400, 401, 503))
async def offer(fleet: Fleet, node: Agent, body: EngineOffer) -> OfferReply:
    """Say whether the store wants an engine that the node built."""
    return await fleet.engine_shelf.offer(node.id, body)


@router.put("/{key}", summary="Give an engine", responses=documented(400, 401, 404, 413, 503), status_code=204)
async def give(
    fleet: Fleet, request: Request, node: Agent, key: EngineKey, digest: Annotated[str, Header(alias=DIGEST_HEADER)]
) -> Response:
    """Keep the bytes of an engine that was offered."""
    try:
        await fleet.engine_shelf.take(node.id, key, request.stream(), digest.lower())
    except ClientDisconnect:
        raise InvalidValue("The engine was cut off; send it again.") from None
    return Response(status_code=204)


@router.get(
    "/{key}",
    summary="An engine",
    response_class=StreamingResponse,
    responses={200: {**BYTES, "description": "The engine"}, **documented(401, 404, 503)},
)
async def engine(fleet: Fleet, node: Agent, key: EngineKey) -> StreamingResponse:
    """Send an engine of the store."""
    opened = await fleet.engine_shelf.open(key)
    stack = ExitStack()
    chunks = await asyncio.to_thread(stack.enter_context, opened.chunks)
    headers = {"Content-Length": str(opened.size), DIGEST_HEADER: opened.sha256}
    return StreamingResponse(closing(chunks, stack), 200, headers, "application/octet-stream")
