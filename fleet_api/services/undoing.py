"""Making something on an engine so that a cancel in the midst leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fleet_api.errors import FleetError


async def made_or_undone(make: Coroutine[Any, Any, str], undo: Callable[[str], Awaitable[object]]) -> str:
    """Return the id of what was made. Cancelled meanwhile, it waits for the engine's answer first: what is there by then is undone."""
    making = asyncio.ensure_future(make)
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        with contextlib.suppress(FleetError):
            await undo(await making)
        raise
