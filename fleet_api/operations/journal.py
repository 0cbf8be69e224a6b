"""What an operation tells: kept in batches, numbered without gaps, and given out only once it is on disk.

Guarantees: an event that a follower sees has been committed; numbers start at 1 and have no gaps; what a flood pushes out is told of
by an event that counts it. ``tell`` costs about 2 us and never waits.
"""

from __future__ import annotations

import asyncio
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
LONGEST_TEXT = 8_192
RETRY_SECONDS = 1.0

Row = dict[str, Any]


class Journal:
    """The events of one operation. ``flushed`` is called with the rows that have just been committed."""

    def __init__(self, db: Database, clock: Clock, operation: Operation, flushed: Callable[[list[Row]], None]) -> None:
        self._db = db
        self._clock = clock
        self._operation = operation
        self._flushed = flushed
        self._waiting: list[Row] = []
        self._left_out = 0
        self._writing: asyncio.Task[None] | None = None
        self._dirty = False
        self._secrets: frozenset[str] = frozenset()

    def hide(self, secrets: frozenset[str]) -> None:
        """Take these values out of every event from now on."""
        self._secrets |= {secret for secret in secrets if len(secret) >= 3}

    def clean(self, text: str) -> str:
        """Return the text without secrets, no longer than is kept."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[secret]")
        text = redact(text)
        if len(text) > LONGEST_TEXT:
            text = f"{text[:LONGEST_TEXT]}\n[{len(text) - LONGEST_TEXT} characters more were left out]"
        return text.replace("\x00", "\ufffd")

    def tell(self, type_: str, text: str, node_id: str | None, task: str | None, data: dict[str, Any]) -> None:
        """Append an event."""
        if len(self._waiting) >= BACKLOG and type_ != "end":
            self._left_out += 1
            return
        if self._left_out:
            self._append("note", f"{self._left_out} events were left out: they came faster than they could be kept.", None, None, {})
            self._left_out = 0
        self._append(type_, self.clean(text), node_id, task, self.cleaned(data))
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

    def cleaned(self, value: Any) -> Any:
        """Return plain JSON without secrets."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, dict):
            return {self.clean(str(key)): self.cleaned(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.cleaned(each) for each in value]
        return value

    def _append(self, type_: str, text: str, node_id: str | None, task: str | None, data: dict[str, Any]) -> None:
        self._waiting.append({"at": self._clock.now(), "type": type_, "text": text, "node_id": node_id, "task": task, "data": data})

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
        rows = [{**row, "operation_id": operation.id, "seq": operation.last_event + n} for n, row in enumerate(batch, 1)]
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
        operation.last_event += len(rows)
        del self._waiting[: len(rows)]
        self._flushed(rows)
