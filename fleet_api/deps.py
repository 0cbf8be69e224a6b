"""What routes ask for, as annotated types."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Header, Path, Query
from starlette.requests import HTTPConnection

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
ModelName = Annotated[str, Path(description="A model's name", examples=["fleet-shapes"])]
Filename = Annotated[str, Path(description="An output's name", examples=["image_550e8400-e29b-41d4-a716-446655440000.png"])]
AttemptNumber = Annotated[int, Path(ge=0, le=2**31, description="Which try at the job", examples=[1])]
IdempotencyHeader = Annotated[str | None, Header(alias="Idempotency-Key", description="Repeats of a request under one key make one job")]


async def _agent(fleet: Fleet, authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> LiveNode:
    scheme, _, credential = (authorization or "").partition(" ")
    return fleet.nodes.authenticate(credential if scheme.lower() == "bearer" else None)


Agent = Annotated[LiveNode, Depends(_agent)]
