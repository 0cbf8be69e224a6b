"""What is asked of Docker engines: calls of the docker library, off the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Api = Any
"""A ``docker.APIClient``; its types are known in part only."""

CALL_SECONDS = 10.0


class Engine(Protocol):
    """One engine. Raises the errors of ``errors.py``, and what SSH raises for a node's."""

    @property
    def name(self) -> str:
        """How sentences name it."""
        ...

    async def call(self, fn: Callable[[Api], T], timeout: float = CALL_SECONDS) -> T:
        """Run ``fn`` in a thread with a client of the engine; the client waits no longer than ``timeout`` for any answer."""
        ...

    def stream(self, fn: Callable[[Api], Iterable[T]]) -> AbstractAsyncContextManager[AsyncIterator[T]]:
        """Run ``fn`` in a thread of its own and yield what it yields, no faster than it is taken.

        What it waits for is cut off when the context closes. For logs, builds, pulls and pushes.
        """
        ...


class Engines(Protocol):
    """Every engine of the fleet."""

    async def of(self, node_id: str | None) -> Engine:
        """Return a node's engine; None is that of the control plane's own machine.

        Raises NotFound for an unknown node, Conflict for one that SSH cannot reach. Nothing is opened before the first call.
        """
        ...
