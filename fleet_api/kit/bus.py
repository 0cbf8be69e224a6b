"""Events inside the process: published once, read by each subscriber at its own pace.

A subscriber that falls :data:`BACKLOG` events behind is closed, so that a slow client costs nobody else anything;
it connects again and reads a fresh snapshot.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

BACKLOG = 1_000


class Subscription:
    """One reader's queue of events, already written as JSON text."""

    def __init__(self, types: frozenset[str] | None) -> None:
        self.types = types
        self.overflowed = False
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(BACKLOG + 1)

    def offer(self, type_: str, text: str) -> None:
        """Add an event unless it is filtered out; a full queue marks the subscription as overflowed."""
        if self.overflowed or (self.types is not None and type_ not in self.types):
            return
        if self._queue.qsize() >= BACKLOG:
            self.overflowed = True
            self._queue.put_nowait(None)
        else:
            self._queue.put_nowait(text)

    @property
    def waiting(self) -> int:
        """How many events wait to be read."""
        return self._queue.qsize()

    def end(self) -> None:
        """Let the reader finish."""
        self.overflowed = True
        if not self._queue.full():
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield event texts until the subscription ends."""
        while (text := await self._queue.get()) is not None:
            yield text


class Bus:
    """Publish and subscribe. Not thread-safe: call it on the event loop."""

    def __init__(self) -> None:
        self._subscribers: set[Subscription] = set()
        self.published = 0

    def publish(self, type_: str, data: dict[str, Any] | Callable[[], dict[str, Any]]) -> None:
        """Give ``{type, data}`` to every subscriber; encoded once, and neither made nor encoded when nobody listens."""
        self.published += 1
        if self._subscribers:
            text = json.dumps({"type": type_, "data": data() if callable(data) else data}, separators=(",", ":"))
            for subscriber in self._subscribers:
                subscriber.offer(type_, text)

    @property
    def subscribers(self) -> int:
        """How many listen."""
        return len(self._subscribers)

    @contextmanager
    def subscribe(self, types: frozenset[str] | None = None) -> Iterator[Subscription]:
        """Listen for the given types, or for all."""
        subscription = Subscription(types)
        self._subscribers.add(subscription)
        try:
            yield subscription
        finally:
            self._subscribers.discard(subscription)

    def close(self) -> None:
        """End every subscription."""
        for subscriber in self._subscribers:
            subscriber.end()
