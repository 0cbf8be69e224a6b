"""Chapter: operations."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import StreamingResponse

from fleet_api.deps import CallerNamed, Fleet, Limit, Offset
from fleet_api.errors import documented
from fleet_api.kit.sse import STILL_HERE, sse, streamed
from fleet_api.lifespan import State
from fleet_api.operations.schemas import EventView, OperationList, OperationView, StartBody
from fleet_api.operations.states import OperationState

router = APIRouter(prefix="/api/operations", tags=["operations"])

OperationId = Annotated[str, Path(description="An operation's id", examples=["550e8400-e29b-41d4-a716-446655440000"])]
KindFilter = Annotated[str | None, Query(max_length=50, description="Only operations of this kind")]
StateFilter = Annotated[OperationState | None, Query(description="Only operations in this state")]
After = Annotated[int | None, Query(ge=0, le=2**53, description="Only events with a higher number")]
LastEventId = Annotated[str | None, Header(description="Where a broken stream goes on; sent by browsers")]
STREAM = streamed("One event of the stream; data is JSON: an event of the operation, or how it ended")


@router.get("", summary="Operations, newest first", responses=documented(400))
async def list_operations(
    fleet: Fleet, kind: KindFilter = None, state: StateFilter = None, limit: Limit = 50, offset: Offset = 0
) -> OperationList:
    """Return a page of operations: onboarding, retiring, and other work that takes long."""
    rows, total = await fleet.operations.page(limit, offset, kind, state)
    return OperationList(operations=[OperationView.of(row) for row in rows], total=total)


@router.post("", status_code=201, summary="Run a playbook on nodes", responses=documented(400, 404, 409, 413, 429, 503))
async def start(
    fleet: Fleet, caller: CallerNamed, body: StartBody, check: Annotated[bool, Query(description="A plan: change nothing")] = False
) -> OperationView:
    """Start an operation on the nodes named, or on those of a cluster; ``?check=true`` tells what it would change, with diffs."""
    row = await fleet.node_plays.start(body.kind, body.node_ids, body.cluster, caller=caller.name, checking=check, mode=body.mode)
    return OperationView.of(row)


@router.get("/{operation_id}", summary="One operation", responses=documented(404))
async def get_operation(fleet: Fleet, operation_id: OperationId) -> OperationView:
    """Return an operation with its step, progress and result."""
    return OperationView.of(await fleet.operations.get(operation_id))


@router.get("/{operation_id}/events", summary="What an operation tells, as it comes", response_class=StreamingResponse,
            responses={**STREAM, **documented(400, 404)})  # fmt: skip
async def events(fleet: Fleet, operation_id: OperationId, after: After = None, last_event_id: LastEventId = None) -> StreamingResponse:
    """Stream events, numbered from 1 without gaps, until the operation ends; go on where you were with ``after`` or Last-Event-ID."""
    await fleet.operations.get(operation_id)
    resumed = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) <= 16 else 0
    start_after = after if after is not None else min(resumed, 2**53)
    return StreamingResponse(
        _stream(fleet, operation_id, start_after), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _stream(fleet: State, operation_id: str, after: int) -> AsyncIterator[str]:
    async for row in fleet.operations.follow(operation_id, after):
        yield sse(row.type, EventView.of(row).model_dump_json(), row.seq) if row else STILL_HERE
    ended = OperationView.of(await fleet.operations.get(operation_id))
    yield sse("ended", json.dumps({"state": ended.state, "reason": ended.reason, "last_event": ended.last_event}))


@router.post("/{operation_id}/cancel", summary="Cancel an operation", responses=documented(404, 409))
async def cancel(fleet: Fleet, operation_id: OperationId) -> OperationView:
    """Ask an operation to end: no new task starts within a second of the answer, and what it runs on the nodes is ended."""
    return OperationView.of(await fleet.operations.cancel(operation_id))


@router.post("/{operation_id}/retry", status_code=201, summary="Try an operation again", responses=documented(404, 409, 429))
async def retry(fleet: Fleet, caller: CallerNamed, operation_id: OperationId) -> OperationView:
    """Start the operation anew for the nodes where it did not succeed."""
    return OperationView.of(await fleet.operations.retry(operation_id, caller.name))
