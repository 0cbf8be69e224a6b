"""Waiting for something within a time, which a cancel always ends."""

from __future__ import annotations

import asyncio
from typing import Awaitable, TypeVar

Result = TypeVar("Result")


async def within(work: Awaitable[Result], seconds: float) -> Result:
    """What ``work`` gives. Raises :class:`asyncio.TimeoutError` where it takes longer than ``seconds``; it is cancelled then.

    Unlike :func:`asyncio.wait_for`, which before Python 3.12 forgets a cancel that comes just as the work is done: a loop around it
    would go on for ever, and who waits for its end with it.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
        if not done:
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
