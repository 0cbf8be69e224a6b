"""What was made while its maker was cancelled is taken away again."""

from __future__ import annotations

import asyncio

import pytest

from fleet_api.errors import Unavailable
from fleet_api.services.undoing import made_or_undone


async def test_cancelled_before_the_engine_has_answered() -> None:
    answered, undone = asyncio.Event(), []

    async def make() -> str:
        await answered.wait()
        return "c1"

    async def undo(made: str) -> None:
        undone.append(made)
        raise Unavailable("The engine went away.")

    task = asyncio.create_task(made_or_undone(make(), undo))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == ["c1"]
