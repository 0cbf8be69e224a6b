"""What routes ask for, as annotated types."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Path, Query
from starlette.requests import HTTPConnection

from fleet_api.access.callers import Caller, caller_of
from fleet_api.access.recognise import NODE_KEY
from fleet_api.errors import Unauthorized
from fleet_api.idempotency.keys import RequestKey
from fleet_api.idempotency.layer import ONCE_KEY
from fleet_api.lifespan import State
from fleet_api.nodes.live import LiveNode


async def _state(connection: HTTPConnection) -> State:
    return cast(State, connection.app.state.fleet)


# Both are coroutines, as FastAPI runs plain functions in a thread each time: 200 us a request.
Fleet = Annotated[State, Depends(_state)]

Limit = Annotated[int, Query(ge=1, le=500, description="Entries on a page")]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1, description="Entries to leave out before the page")]
JobId = Annotated[str, Path(description="A job's id", examples=["550e8400-e29b-41d4-a716-446655440000"])]
NodeId = Annotated[str, Path(description="A node's id", examples=["agx0"])]
Explain = Annotated[bool, Query(description="Say in words why the job waits, or why it went to its node")]
ModelName = Annotated[str, Path(description="A model's name", examples=["fleet-shapes"])]
LoraName = Annotated[str, Path(description="A LoRA's name", examples=["night"])]
Filename = Annotated[str, Path(description="An output's name", examples=["image_550e8400-e29b-41d4-a716-446655440000.png"])]
AttemptNumber = Annotated[int, Path(ge=0, le=2**31, description="Which try at the job", examples=[1])]
DeliveryId = Annotated[str, Path(description="A delivery's id", examples=["msg_0123456789abcdef0123456789abcdef"])]


async def _agent(connection: HTTPConnection) -> LiveNode:
    return cast(LiveNode, connection.scope[NODE_KEY])


Agent = Annotated[LiveNode, Depends(_agent)]
"""The node whose agent calls; the row's guard has let it in."""


async def _once(connection: HTTPConnection) -> RequestKey | None:
    return cast("RequestKey | None", connection.scope.get(ONCE_KEY))


OnceKey = Annotated[RequestKey | None, Depends(_once)]
"""The request's ``Idempotency-Key``, for what writes it in the transaction that makes things."""


async def _caller(connection: HTTPConnection) -> Caller:
    caller = caller_of(connection)
    if caller is None:
        raise Unauthorized("This wants a key: send it as 'Authorization: Bearer <key>'.")
    return caller


CallerNamed = Annotated[Caller, Depends(_caller)]


def caller_id(connection: HTTPConnection) -> str:
    """Return whom the jobs of a request are counted to: the key, or the address where there are no keys."""
    caller = caller_of(connection)
    if caller is not None and caller.kind == "key":
        return caller.id
    return connection.client.host if connection.client else ""


def charge(fleet: State, connection: HTTPConnection, made: int) -> None:
    """Count everything that one request made against its caller's rate; the guard has counted one already."""
    caller = caller_of(connection)
    if caller is not None and made > 1 and caller.kind in ("key", "open"):
        address = connection.client.host if connection.client else ""
        fleet.limits.owe(caller.id if caller.kind == "key" else address, made - 1)
