"""Engines that a test describes, in place of Docker: any object with the methods of the docker library's client that are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fleet_api.adapters.docker.errors import EngineAway, refusal
from fleet_api.adapters.docker.types import CALL_SECONDS
from fleet_api.errors import FleetError

T = TypeVar("T")


class FakeEngine:
    """``client`` is given to what is called; ``error`` is raised instead where it is set; ``calls`` counts."""

    def __init__(self, name: str, client: Any = None, error: FleetError | None = None) -> None:
        self.name = name
        self.client = client
        self.error = error
        self.calls = 0

    async def call(self, fn: Callable[[Any], T], timeout: float = CALL_SECONDS) -> T:
        """See :class:`Engine`."""
        self._there()
        await asyncio.sleep(0)
        try:
            return fn(self.client)
        except Exception as error:
            raise refusal(error, self.name) from error

    @asynccontextmanager
    async def stream(self, fn: Callable[[Any], Iterable[T]]) -> AsyncIterator[AsyncIterator[T]]:
        """See :class:`Engine`."""
        self._there()

        async def pieces() -> AsyncIterator[T]:
            try:
                for piece in fn(self.client):
                    await asyncio.sleep(0)
                    yield piece
            except Exception as error:
                raise refusal(error, self.name) from error

        yield pieces()

    def _there(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error
        if self.client is None:
            raise EngineAway(f"No Docker Engine answers on {self.name}; see that Docker is installed and runs there.")


class FakeEngines:
    """Engines by node; a node without one has no engine that answers. ``known`` raises for what is no node, as the real one does."""

    def __init__(self, *, here: Any = None, known: Callable[[str], Any] = str, **nodes: Any) -> None:
        self.known = known
        self.engines: dict[str | None, FakeEngine] = {None: FakeEngine("this machine", here)}
        self.engines |= {name: FakeEngine(name, client) for name, client in nodes.items()}

    async def of(self, node_id: str | None) -> FakeEngine:
        """See :class:`Engines`."""
        if node_id is not None:
            self.known(node_id)
        if node_id not in self.engines:
            self.engines[node_id] = FakeEngine(str(node_id))
        return self.engines[node_id]

    async def sweep(self) -> None:
        """Nothing is ever open."""

    async def close(self) -> None:
        """Nothing is ever open."""
