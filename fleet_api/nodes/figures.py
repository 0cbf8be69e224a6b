"""Every node's figures once a second, for whoever watches: written as JSON once, however many they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from fleet_api.kit.clock import Clock, rfc3339
from fleet_api.nodes.schemas import NodeMetrics
from fleet_api.nodes.service import NodeService

SECONDS = 1.0


class FiguresStream:
    """One instance a process, used on the event loop only. Nothing runs while nobody watches."""

    def __init__(self, nodes: NodeService, clock: Clock) -> None:
        self._nodes = nodes
        self._clock = clock
        self._watchers = 0
        self._text = ""
        self._next: asyncio.Future[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def read(self) -> AsyncGenerator[str]:
        """Yield the figures at once, and then every second. A reader that is slow misses what came meanwhile."""
        self._watchers += 1
        try:
            yield self._write()
            while True:
                if self._writing is None:
                    self._writing = asyncio.get_running_loop().create_task(self._tick(), name="figures")
                if self._next is None:
                    self._next = asyncio.get_running_loop().create_future()
                await asyncio.shield(self._next)
                yield self._text
        finally:
            self._watchers -= 1

    async def _tick(self) -> None:
        try:
            while self._watchers:
                await asyncio.sleep(SECONDS)
                self._text = self._write()
                told, self._next = self._next, None
                if told is not None:
                    told.set_result(None)
        finally:
            self._writing = None

    def _write(self) -> str:
        nodes = {node.id: NodeMetrics.of(node).model_dump() for node in self._nodes.all()}
        return json.dumps({"type": "metrics", "nodes": nodes, "timestamp": rfc3339(self._clock.now())}, separators=(",", ":"))
