"""A background task that runs one function at a fixed rate, and says so when it cannot keep up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from fleet_api.kit.background import in_background

log = structlog.get_logger()

LATE_SECONDS = 10.0


class LoopService:
    """Call ``run_once`` every ``seconds``; an error is logged and the next round comes all the same."""

    def __init__(self, name: str, seconds: float, run_once: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self.seconds = seconds
        self.run_once = run_once
        self._last: float | None = None

    def in_time(self) -> bool:
        """Say whether the last round went well, no longer ago than a round and :data:`LATE_SECONDS`."""
        return self._last is None or time.monotonic() - self._last < self.seconds + LATE_SECONDS

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run in the background while the context is open."""
        self._last = time.monotonic()
        async with in_background(self._run(), self.name):
            yield

    async def _run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                await self.run_once()
                self._last = time.monotonic()
            except Exception:
                log.exception("background_round_failed", service=self.name)
            took = time.monotonic() - started
            if took > self.seconds:
                log.warning("background_round_slow", service=self.name, seconds=round(took, 3), period=self.seconds)
            await asyncio.sleep(max(0.0, self.seconds - took))
