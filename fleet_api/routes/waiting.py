"""Rows that answer when their operation has ended."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from fleet_api.errors import error_of
from fleet_api.lifespan import State
from fleet_api.operations.models import Operation
from fleet_api.operations.states import OperationState
from fleet_api.operations.work import ERROR_STATUS

WaitSeconds = Annotated[float, Query(gt=0, le=3600, description="Seconds to wait; then it is 504, names the operation, and that goes on")]


async def done(fleet: State, operation_id: str, seconds: float) -> Operation:
    """Return an operation that has succeeded. Raises Timeout, and where it did not succeed what it failed with."""
    row = await fleet.operations.wait(operation_id, seconds)
    if row.state != OperationState.SUCCEEDED:
        reason = (row.reason or f"The operation is {row.state}").rstrip(".")
        raise error_of(row.result.get(ERROR_STATUS))(f"{reason} (operation {row.id}).")
    return row
