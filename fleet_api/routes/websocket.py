"""WebSockets: events, and figures of every node once a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from fleet_api.access.recognise import SUBPROTOCOL
from fleet_api.deps import Fleet
from fleet_api.errors import NotFound

router = APIRouter(tags=["websocket"])

TRY_AGAIN_LATER = 1013
NOT_THERE = 4404


@router.websocket("/ws")
async def events(websocket: WebSocket, fleet: Fleet) -> None:
    """Send ``{type, data}`` events; ``?types=a,b`` keeps only these types."""
    wanted = websocket.query_params.get("types")
    types = frozenset(each.strip() for each in wanted.split(",") if each.strip()) if wanted else None
    with fleet.bus.subscribe(types) as subscription:
        await websocket.accept(_subprotocol(websocket))

        async def send() -> None:
            async for text in subscription:
                await websocket.send_text(text)
            await websocket.close(TRY_AGAIN_LATER)

        await _until_closed(websocket, send())


@router.websocket("/ws/metrics")
async def metrics(websocket: WebSocket, fleet: Fleet) -> None:
    """Send every node's figures at once and then every second."""
    await websocket.accept(_subprotocol(websocket))

    async def send() -> None:
        async with contextlib.aclosing(fleet.figures.read()) as figures:
            async for text in figures:
                await websocket.send_text(text)

    await _until_closed(websocket, send())


@router.websocket("/ws/logs/{node_id}")
async def logs(websocket: WebSocket, fleet: Fleet, node_id: str) -> None:
    """Send what the node's own services log, and what operations tell of it, as it comes; the last line says why it ended."""
    await websocket.accept(_subprotocol(websocket))
    try:
        async with fleet.node_logs.watched(node_id) as lines:

            async def send() -> None:
                async for text in lines:
                    await websocket.send_text(text)
                await websocket.close(TRY_AGAIN_LATER)

            await _until_closed(websocket, send())
    except NotFound as error:
        await websocket.send_text(fleet.node_logs.line(node_id[:64], "error", error.detail))
        await websocket.close(NOT_THERE, "There is no such node.")


def _subprotocol(websocket: WebSocket) -> str | None:
    """Return the subprotocol to agree on with a client that showed its key as another one."""
    offered = [each.strip() for each in websocket.headers.get("sec-websocket-protocol", "").split(",")]
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


async def _until_closed(websocket: WebSocket, sending: Coroutine[Any, Any, None]) -> None:
    """Run ``sending`` until it ends or the client closes; what the client sends is read and dropped."""
    tasks = [asyncio.create_task(sending), asyncio.create_task(_read(websocket))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # unlike awaiting each, this cannot take a cancel of its own for one of theirs
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            task.result()


async def _read(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
