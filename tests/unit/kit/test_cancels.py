"""A cancel that comes while a task of one's own is being ended is not lost."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fleet_api.kit.background import in_background
from fleet_api.kit.disconnect import while_connected

MOMENTS = range(6)
"""Turns of the loop between the end of a work and the cancel."""


async def for_ever() -> None:
    await asyncio.Event().wait()


async def is_cancelled(task: asyncio.Task[Any], turns: int) -> bool:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    ended = task.cancelled()
    task.cancel()
    return ended


@pytest.mark.parametrize("turns", MOMENTS)
async def test_as_a_background_ends(turns: int) -> None:
    done = asyncio.Event()

    async def work() -> None:
        async with in_background(for_ever(), "for ever"):
            await done.wait()
        await for_ever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    done.set()
    assert await is_cancelled(task, turns)


async def test_what_a_background_raised_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with in_background(fails(), "fails"):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("turns", MOMENTS)
async def test_as_a_caller_gets_an_answer(turns: int) -> None:
    done = asyncio.Event()
    request: Any = SimpleNamespace(receive=for_ever)

    async def work() -> None:
        await while_connected(request, done.wait())
        await for_ever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    done.set()
    assert await is_cancelled(task, turns)
