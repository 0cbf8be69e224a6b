"""Notice that the caller hung up while an answer is being prepared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

T = TypeVar("T")


class CallerGone(Exception):
    """The connection closed before the answer was ready."""


async def while_connected(request: Request, work: Awaitable[T], timeout: float | None = None) -> T:
    """Await ``work`` while the caller stays connected. The request's body must have been read.

    Raises:
        CallerGone: the caller hung up; ``work`` was cancelled.
        TimeoutError: ``timeout`` seconds passed; ``work`` was cancelled.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise CallerGone
        raise TimeoutError
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
