"""What nodes log, followed while somebody watches: one connection's command a node, however many watch.

A watcher also gets the lines that operations tell of the node. One that falls behind is closed, like any subscriber of the bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from fleet_api.adapters.ssh.errors import BecomeRefused
from fleet_api.adapters.ssh.types import Ssh, Target
from fleet_api.errors import Conflict, FleetError, NotFound
from fleet_api.kit.background import in_background
from fleet_api.kit.bus import BACKLOG, Bus, Subscription
from fleet_api.kit.clock import Clock, rfc3339
from fleet_api.nodes.commands import NodeCommands
from fleet_api.nodes.journal import command, event

log = structlog.get_logger()

GONE = "Node {} is gone: it was removed from the fleet."

LINES = 100
"""How many lines of before a watcher gets."""

PATIENCE, LOOK_SECONDS = 3.0, 0.01
"""How many seconds a burst of lines waits for a watcher to take some; the node waits meanwhile, and then the watcher is closed."""


@dataclass(slots=True)
class _Followed:
    """A node that somebody watches. ``recent`` is what one who comes later gets first."""

    task: asyncio.Task[None]
    watchers: set[Subscription] = field(default_factory=set)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))


class NodeLogs:
    """One instance a process, used on the event loop only."""

    def __init__(self, commands: NodeCommands, ssh: Ssh, bus: Bus, clock: Clock) -> None:
        self._commands = commands
        self._ssh = ssh
        self._bus = bus
        self._clock = clock
        self._followed: dict[str, _Followed] = {}

    @asynccontextmanager
    async def watched(self, node_id: str) -> AsyncIterator[Subscription]:
        """Give the node's log as JSON texts, which ends with a sentence when the node cannot be followed any more.

        A node without a credential gives the lines of operations alone, after a sentence that says so. Raises NotFound.
        """
        watcher = Subscription(None)
        try:
            target = self._commands.target(node_id)
        except Conflict as error:
            watcher.offer("log", self.line(node_id, "warning", error.detail))
            async with in_background(self._operations(node_id, watcher), f"operations' log of {node_id}"):
                yield watcher
            return
        followed = self._followed.get(node_id)
        if followed is None or followed.task.done():
            task = asyncio.get_running_loop().create_task(self._follow(node_id, target), name=f"log of {node_id}")
            followed = self._followed[node_id] = _Followed(task)
        for text in followed.recent:
            watcher.offer("log", text)
        followed.watchers.add(watcher)
        try:
            async with in_background(self._operations(node_id, watcher), f"operations' log of {node_id}"):
                yield watcher
        finally:
            followed.watchers.discard(watcher)
            if not followed.watchers:
                followed.task.cancel()
                if self._followed.get(node_id) is followed:
                    del self._followed[node_id]
                await asyncio.wait({followed.task})

    def line(self, node_id: str, level: str, message: str) -> str:
        """Return a line of this control plane's own."""
        now = rfc3339(self._clock.now())
        return _json({"type": "log", "node_id": node_id, "timestamp": now, "level": level, "message": message, "source": "fleet"})

    async def _follow(self, node_id: str, target: Target) -> None:
        try:
            try:
                await self._read(node_id, target, become=True)
            except BecomeRefused:  # its user may be let read the journal without it
                await self._read(node_id, target, become=False)
            reason = f"The journal of {node_id} ended; connect again."
        except FleetError as error:
            reason = error.detail
        except Exception:
            log.exception("log_broke", node=node_id)
            reason = f"The log of {node_id} broke off; connect again."
        with contextlib.suppress(Conflict):
            try:
                self._commands.target(node_id)
            except NotFound:
                reason = GONE.format(node_id)
        followed = self._followed.pop(node_id, None)
        for watcher in followed.watchers if followed else ():
            watcher.offer("log", self.line(node_id, "error", reason))
            watcher.end()

    async def _read(self, node_id: str, target: Target, become: bool) -> None:
        async with self._ssh.lines(target, command(LINES), become=become) as lines:
            async for line in lines:
                found = event(node_id, line)
                followed = self._followed.get(node_id)
                if found is not None and followed is not None:
                    text = _json(found)
                    followed.recent.append(text)
                    await _room(followed.watchers)
                    for watcher in followed.watchers:
                        watcher.offer("log", text)

    async def _operations(self, node_id: str, watcher: Subscription) -> None:
        """Pass on what operations tell of the node, and end when it is removed."""
        with self._bus.subscribe(frozenset({"log", "node_removed"})) as subscription:
            async for text in subscription:
                told = json.loads(text)
                if told["data"].get("node_id") != node_id:
                    continue
                if told["type"] == "node_removed":
                    watcher.offer("log", self.line(node_id, "error", GONE.format(node_id)))
                    watcher.end()
                    return
                watcher.offer("log", _json({"type": "log", **told["data"]}))
        watcher.end()


async def _room(watchers: set[Subscription]) -> None:
    """Wait until each watcher has room for more, for a while."""
    for _ in range(round(PATIENCE / LOOK_SECONDS)):
        if all(watcher.waiting < BACKLOG or watcher.overflowed for watcher in watchers):
            return
        await asyncio.sleep(LOOK_SECONDS)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
