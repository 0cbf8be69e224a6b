"""What an operation tells: kept in batches, numbered without gaps, and given out only once it is on disk.

Guarantees: an event that a follower sees has been committed; numbers start at 1 and have no gaps; what a flood pushes out is told of
by an event that counts it; what cannot be kept is left out and never stops the operation. ``tell`` never waits.

What machines say is bounded and cleaned here, whatever it holds: secrets first, as cutting a text could leave half of one.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import structlog

from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database, DatabaseUnusable
from fleet_api.kit.redact import redact
from fleet_api.operations import repository
from fleet_api.operations.models import Operation

log = structlog.get_logger()

FLUSH_SECONDS = 0.1
BATCH = 500
BACKLOG = 20_000  # events that wait for a disk that is full; a play of 300 nodes tells about 100 a second
BACKLOG_BYTES = 32 * 1024 * 1024
MOST_EVENTS = 200_000  # of one operation
KEPT_ALWAYS = frozenset({"end", "failed", "unreachable", "stats"})
LONGEST_TEXT = 8_192
LONGEST_READ = 4 * LONGEST_TEXT  # what is looked through for secrets
LARGEST_DATA = 64 * 1024  # bytes of JSON
DEEPEST = 8
WIDEST = 500
RETRY_SECONDS = 1.0

Row = dict[str, Any]


class Journal:
    """The events of one operation. ``flushed`` is called with the rows that have just been committed."""

    def __init__(self, db: Database, clock: Clock, operation: Operation, flushed: Callable[[list[Row]], None]) -> None:
        self._db = db
        self._clock = clock
        self._operation = operation
        self._flushed = flushed
        self._waiting: list[tuple[Row, int]] = []
        self._bytes = 0
        self._left_out = 0
        self._writing: asyncio.Task[None] | None = None
        self._dirty = False
        self._told = operation.last_event
        self._secrets: list[str] = []

    def hide(self, secrets: frozenset[str]) -> None:
        """Take these values out of every event from now on, also as JSON writes them."""
        found = {form for secret in secrets if len(secret) >= 3 for form in (secret, json.dumps(secret)[1:-1])}
        self._secrets = sorted({*self._secrets, *found}, key=len, reverse=True)  # one may begin another

    def clean(self, text: str) -> str:
        """Return the text without secrets, no longer than is kept."""
        whole, text = len(text), text[:LONGEST_READ]
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[secret]")
        text = redact(text)
        if len(text) > LONGEST_TEXT:
            text = f"{text[:LONGEST_TEXT]}\n[{whole - LONGEST_TEXT} characters more were left out]"
        return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()

    def tell(self, type_: str, text: str, node_id: str | None, task: str | None, data: dict[str, Any]) -> None:
        """Append an event."""
        full = len(self._waiting) >= BACKLOG or self._bytes >= BACKLOG_BYTES
        if type_ != "end" and (full or (self._told >= MOST_EVENTS and type_ not in KEPT_ALWAYS)):
            self._left_out += 1
            return
        if self._left_out:
            self._append("note", f"{self._left_out} events were left out: they came faster than they could be kept.", None, None, {})
            self._left_out = 0
        self._append(type_, self.clean(text), node_id and self.clean(node_id), task and self.clean(task), self.bounded(data, LARGEST_DATA))
        self._start()

    def at(self, step: str, progress: float) -> None:
        """Note the step and its progress in percent."""
        self._operation.step = step
        self._operation.progress = max(self._operation.progress, min(100.0, round(progress, 1)))
        self._dirty = True
        self._start()

    async def settled(self) -> None:
        """Wait until all that was told so far is on disk."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    def bounded(self, value: dict[str, Any], limit: int) -> dict[str, Any]:
        """Return plain JSON without secrets, no larger than ``limit`` bytes; what is larger is replaced by a note."""
        found = self._plain(value, 0)
        size = len(json.dumps(found))
        return found if size <= limit else {"note": f"{size} bytes were left out: at most {limit} are kept."}

    def _plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.clean(value)
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if depth >= DEEPEST:
            return "[left out: too deep]"
        if isinstance(value, dict):
            return {self.clean(str(key)): self._plain(each, depth + 1) for key, each in list(value.items())[:WIDEST]}
        if isinstance(value, list | tuple):
            return [self._plain(each, depth + 1) for each in value[:WIDEST]]
        return self.clean(str(value))

    def _append(self, type_: str, text: str, node_id: str | None, task: str | None, data: dict[str, Any]) -> None:
        row = {"at": self._clock.now(), "type": type_, "text": text, "node_id": node_id, "task": task, "data": data}
        size = len(text) + len(json.dumps(data))
        self._waiting.append((row, size))
        self._bytes += size
        self._told += 1

    def _start(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name=f"journal {self._operation.id}")

    async def _write(self) -> None:
        try:
            while self._waiting or self._dirty:
                if len(self._waiting) < BATCH:
                    await asyncio.sleep(FLUSH_SECONDS)
                await self._flush()
        finally:
            self._writing = None

    async def _flush(self) -> None:
        operation = self._operation
        self._dirty = False
        batch = self._waiting[:BATCH]
        rows = [{**row, "operation_id": operation.id, "seq": operation.last_event + n} for n, (row, _) in enumerate(batch, 1)]
        values = {"step": operation.step, "progress": operation.progress, "last_event": operation.last_event + len(rows)}

        def write(db: Any) -> None:
            if rows:
                repository.add_events(db, rows)
            repository.change(db, operation.id, **values)

        try:
            await self._db.write(write)
        except DatabaseUnusable as error:
            log.warning("operation_events_not_saved", operation=operation.id, reason=error.detail)
            self._dirty = True
            await asyncio.sleep(RETRY_SECONDS)
            return
        except Exception:  # a defect of ours: these events are lost, the operation goes on
            log.exception("operation_events_lost", operation=operation.id, events=len(batch))
            self._drop(batch)
            return
        operation.last_event += len(rows)
        self._drop(batch)
        self._flushed(rows)

    def _drop(self, batch: list[tuple[Row, int]]) -> None:
        del self._waiting[: len(batch)]
        self._bytes -= sum(size for _, size in batch)
