"""Operations: asked for, queued, started when their nodes are free, told of, cancelled, retried.

Guarantees: a node is held by one operation at a time (:class:`NodeLocks` is the truth); what is queued survives a restart; what ran then
is ``lost``, and its processes are ended before anything else starts. Every operation that began comes to an end in the table, whatever
its work or its events were; only a full disk delays that. Used on the event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from fleet_api.adapters.ansible.play import Outcome, Play, Plays, Told
from fleet_api.errors import Conflict, NotFound, QueueFull, Timeout
from fleet_api.kit.bus import Bus
from fleet_api.kit.clock import Clock, rfc3339
from fleet_api.kit.db import Database, DatabaseUnusable
from fleet_api.operations import repository
from fleet_api.operations.journal import Journal, Row
from fleet_api.operations.kinds import Kinds
from fleet_api.operations.locks import NodeLocks
from fleet_api.operations.models import Operation, OperationEvent
from fleet_api.operations.states import ENDED, RETRIABLE, OperationState
from fleet_api.operations.work import OperationFailed, Work

log = structlog.get_logger()

QUEUE_LIMIT = 10_000
PAGE = 500
KEEP_ALIVE_SECONDS = 15.0
AGAIN_SECONDS = 1.0
LARGEST_RESULT = 1024 * 1024  # bytes of JSON: some 3,000 for each of 300 nodes


@dataclass(slots=True)
class _Running:
    row: Operation
    doing: asyncio.Task[None]
    whole: asyncio.Task[None] | None = None


class OperationService:
    """One instance a process."""

    def __init__(self, db: Database, clock: Clock, bus: Bus, plays: Plays, limit: int) -> None:
        self.kinds = Kinds()
        self._db = db
        self._clock = clock
        self._bus = bus
        self._plays = plays
        self._limit = limit
        self._waiting: dict[str, Operation] = {}
        self._running: dict[str, _Running] = {}
        self._locks = NodeLocks()
        self._news: dict[str, asyncio.Future[None]] = {}
        self._pumping: asyncio.Task[None] | None = None
        self._pump_again = False
        self._stopping = False

    async def load(self) -> None:
        """End what an earlier life left, mark it lost, and take up what waits."""
        await self._plays.end_survivors()
        now = self._clock.now()
        for row in await self._db.read(repository.unfinished):
            if row.state == OperationState.RUNNING:
                await self._db.write(lambda db, row=row: _lose(db, row.id, now, self.kinds.lost(row.kind)))  # type: ignore[misc]
            else:
                self._waiting[row.id] = row
        await self._db.write(repository.clear_locks)
        self._pump()

    async def stop(self) -> None:
        """End what runs; it is marked lost. What waits goes on after the next start."""
        self._stopping = True
        running = list(self._running.values())
        for each in running:
            if not each.row.cancel_asked:  # a second cancel would cut the first one's cleaning short
                each.doing.cancel()
        await asyncio.gather(*(each.whole for each in running if each.whole), return_exceptions=True)
        if self._pumping is not None:
            self._pumping.cancel()
            await asyncio.gather(self._pumping, return_exceptions=True)

    async def submit(
        self, kind: str, request: dict[str, Any], *, caller: str, node_ids: Sequence[str] = (), checking: bool = False,
        retry_of: str | None = None, parent_id: str | None = None,
    ) -> Operation:  # fmt: skip
        """Queue an operation. Raises InvalidValue for an unknown kind, QueueFull."""
        title = self.kinds[kind].title(request)
        if len(self._waiting) >= QUEUE_LIMIT:
            raise QueueFull(f"{QUEUE_LIMIT} operations wait already; try again when some have ended.")
        row = Operation(
            id=str(uuid.uuid4()), kind=kind, title=title, state=OperationState.QUEUED, checking=checking, node_ids=list(node_ids),
            request=request, retry_of=retry_of, parent_id=parent_id, caller=caller, created_at=self._clock.now(),
        )  # fmt: skip
        self._waiting[row.id] = row  # before the write: nobody else may slip in between a caller's look and this
        try:
            await self._db.write(lambda db: repository.add(db, [row]))
        except DatabaseUnusable:
            self._waiting.pop(row.id, None)
            raise
        self._announce(row)
        self._pump()
        return row

    async def get(self, operation_id: str) -> Operation:
        """Return an operation as it is now. Raises NotFound."""
        live = self._live(operation_id)
        row = live or await self._db.read(lambda db: repository.get(db, operation_id))
        if row is None:
            raise NotFound(f"There is no operation {operation_id!r}.")
        return row

    async def page(self, limit: int, offset: int, kind: str | None, state: str | None) -> tuple[list[Operation], int]:
        """Return a page, newest first, and the number of all."""
        rows, total = await self._db.read(lambda db: repository.page(db, limit, offset, kind, state))
        return [self._live(row.id) or row for row in rows], total

    async def of_kind(self, kind: str) -> list[Operation]:
        """Return the operations of a kind that nobody has cleared away, oldest first."""
        return [self._live(row.id) or row for row in await self._db.read(lambda db: repository.of_kind(db, kind))]

    def unfinished(self) -> list[Operation]:
        """Return what runs and what waits."""
        return [each.row for each in self._running.values()] + list(self._waiting.values())

    async def dismiss_ended(self, kind: str) -> int:
        """Clear the ended ones of a kind away from their queue."""
        return await self._db.write(lambda db: repository.dismiss_ended(db, kind))

    async def cancel(self, operation_id: str) -> Operation:
        """Ask an operation to end; returns at once. Raises NotFound, and Conflict for one that has ended."""
        row = await self.get(operation_id)
        if row.state in ENDED:
            raise Conflict(f"Operation {operation_id} has ended already: {row.state}.")
        if operation_id in self._running:
            if not row.cancel_asked:  # a second cancel must not cut the first one's cleaning short
                self._running[operation_id].doing.cancel()
            row.cancel_asked = True
        else:
            await self._cancel_waiting(row)
        await self._cancel_parts(operation_id)
        return row

    async def _cancel_waiting(self, row: Operation) -> None:
        waited = self._waiting.pop(row.id, None) is not None
        reason = "It was cancelled before it began."
        try:
            await self._write_end(row, OperationState.CANCELLED, reason, self._clock.now())
        except DatabaseUnusable:
            if waited:
                self._waiting[row.id] = row
            raise
        row.cancel_asked = True
        self._ended(row)

    async def _cancel_parts(self, operation_id: str) -> None:
        for part in [each for each in self.unfinished() if each.parent_id == operation_id]:
            with contextlib.suppress(Conflict, NotFound):
                await self.cancel(part.id)

    async def retry(self, operation_id: str, caller: str) -> Operation:
        """Queue the operation again, for what did not succeed.

        Raises NotFound, Conflict for one that did succeed, has not ended, or is being tried again already, and what its kind raises.
        """
        row = await self.get(operation_id)
        if row.state not in RETRIABLE:
            state = "has succeeded; start a new one" if row.state == OperationState.SUCCEEDED else f"is {row.state}; wait for its end"
            raise Conflict(f"Operation {operation_id} {state}.")
        request = await self.kinds[row.kind].retried(row.request, row.result)
        again = next((each.id for each in self.unfinished() if each.retry_of == operation_id), None)
        if again is not None:
            raise Conflict(f"Operation {operation_id} is being tried again already, as {again}.")
        nodes = request.get("node_ids", row.node_ids)
        return await self.submit(row.kind, request, caller=caller, node_ids=nodes, checking=row.checking, retry_of=row.id)

    async def wait(self, operation_id: str, seconds: float) -> Operation:
        """Return the operation once it has ended. Raises Timeout, which names it; it goes on."""
        try:
            async with asyncio.timeout(seconds):
                while (row := await self.get(operation_id)).state not in ENDED:
                    await asyncio.shield(self._changed(operation_id))
                return row
        except TimeoutError:
            raise Timeout(f"Not ready after {seconds:g} s; it goes on as operation {operation_id}.") from None

    async def events(self, operation_id: str, after: int, limit: int = PAGE) -> list[OperationEvent]:
        """Return events numbered above ``after``. Raises NotFound."""
        await self.get(operation_id)
        return await self._db.read(lambda db: repository.events_after(db, operation_id, after, limit))

    async def follow(self, operation_id: str, after: int) -> AsyncGenerator[OperationEvent | None]:
        """Yield every event above ``after`` as it comes, until the operation has ended; None now and then while nothing comes."""
        while True:
            changed = self._changed(operation_id)
            try:
                ended = (await self.get(operation_id)).state in ENDED
                rows = await self.events(operation_id, after)
            except NotFound:  # so old that it was deleted meanwhile
                ended, rows = True, []
            for row in rows:
                yield row
                after = row.seq
            if not rows and ended:
                self._tell_followers(operation_id)
                return
            if not rows:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                        await asyncio.shield(changed)
                if not changed.done():
                    yield None

    # -- running

    def _live(self, operation_id: str) -> Operation | None:
        running = self._running.get(operation_id)
        return running.row if running else self._waiting.get(operation_id)

    def _pump(self) -> None:
        """Start what can be started."""
        self._pump_again = True
        if self._pumping is None and not self._stopping:
            self._pumping = asyncio.get_running_loop().create_task(self._start_all(), name="operations")

    async def _start_all(self) -> None:
        try:
            while self._pump_again:
                self._pump_again = False
                for row in list(self._waiting.values()):
                    if self._stopping:
                        return
                    if self._at_work() >= self._limit and not self.kinds[row.kind].waits_only:
                        continue
                    names = sorted(set(self.kinds[row.kind].locks(row.request)))
                    if row.id in self._waiting and self._locks.take(names, row.id):
                        await self._start(row, names)
        except DatabaseUnusable as error:
            log.warning("operations_not_started", reason=error.detail)
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._pump)
        except Exception:
            log.exception("operations_not_started")
        finally:
            self._pumping = None

    def _at_work(self) -> int:
        return sum(not self.kinds[each.row.kind].waits_only for each in self._running.values())

    async def _start(self, row: Operation, names: list[str]) -> None:
        now = self._clock.now()

        def take(db: Any) -> bool:
            if not repository.move(db, row.id, OperationState.QUEUED, state=OperationState.RUNNING, started_at=now):
                return False
            repository.take_locks(db, names, row.id, now)
            return True

        try:
            started = await self._db.write(take)
        except BaseException:
            self._locks.release(row.id)
            raise
        if not started:  # it is no longer queued: cancelled meanwhile
            self._locks.release(row.id)
            self._waiting.pop(row.id, None)
            return
        cancelled = self._waiting.pop(row.id, None) is None  # its cancel waits behind this write, and finds it running
        row.state, row.started_at = OperationState.RUNNING, now
        journal = Journal(self._db, self._clock, row, lambda rows: self._flushed(row, rows))
        work = Work(row, journal, self._play, self._lock)
        loop = asyncio.get_running_loop()
        work.tell("start", row.title)
        running = self._running[row.id] = _Running(row, loop.create_task(self.kinds[row.kind].run(work), name=f"operation {row.id}"))
        running.whole = loop.create_task(self._see_through(row, work, running.doing), name=f"end of operation {row.id}")
        if cancelled:
            row.cancel_asked = True
            running.doing.cancel()
        self._announce(row)

    async def _see_through(self, row: Operation, work: Work, doing: asyncio.Task[None]) -> None:
        state, reason = OperationState.SUCCEEDED, None
        await asyncio.wait({doing})
        try:
            doing.result()
        except OperationFailed as error:
            state, reason = OperationState.FAILED, str(error)
        except asyncio.CancelledError:
            state = OperationState.LOST if self._stopping and not row.cancel_asked else OperationState.CANCELLED
            reason = "The control plane was stopped while this ran; try again with a retry." if state == "lost" else "It was cancelled."
        except Exception as error:
            log.exception("operation_broke", operation=row.id)
            detail = getattr(error, "detail", None)
            state, reason = OperationState.FAILED, detail or "The control plane failed at this; its log tells more. Try again with a retry."
        row.result = work.journal.bounded(work.result, LARGEST_RESULT)
        reason = work.journal.clean(reason) if reason else None
        if state == OperationState.CANCELLED:
            await self._cancel_parts(row.id)
        work.tell("end", reason or row.title, state=state)
        if state == OperationState.SUCCEEDED:
            work.step(row.step or "done", 100.0)
        await work.journal.settled()
        await self._end(row, state, reason)

    async def _end(self, row: Operation, state: OperationState, reason: str | None) -> None:
        now = self._clock.now()
        while True:
            try:
                await self._write_end(row, state, reason, now)
                break
            except Exception as error:  # a full disk: the nodes stay held until the end is written
                log.error("operation_end_not_saved", operation=row.id, reason=str(error))
                if self._stopping:
                    return
                await asyncio.sleep(AGAIN_SECONDS)
        self._ended(row)

    def _ended(self, row: Operation) -> None:
        """Let go of an operation whose end is on disk."""
        self._running.pop(row.id, None)
        self._locks.release(row.id)
        self._tell_followers(row.id)
        self._announce(row)
        self._pump()

    async def _write_end(self, row: Operation, state: OperationState, reason: str | None, now: float) -> None:
        values = {
            "state": state, "reason": reason, "ended_at": now, "result": row.result, "node_ids": row.node_ids, "step": row.step,
            "progress": row.progress, "cancel_asked": row.cancel_asked,
        }  # fmt: skip

        def end(db: Any) -> None:
            repository.change(db, row.id, **values)
            repository.free_locks(db, row.id)

        await self._db.write(end)
        row.state, row.reason, row.ended_at = state, reason, now

    async def _play(self, work: Work, play: Play) -> Outcome:
        work.journal.hide(play.secrets)
        done = 0

        def told(event: Told) -> None:
            nonlocal done
            role = event.get("role")
            if event["type"] == "task" and role in play.steps:
                done = max(done, play.steps.index(role))
                work.step(role, 100.0 * done / len(play.steps))
            work.tell(event["type"], event["text"], event.get("node_id"), event.get("task"), **event.get("data", {}))

        return await self._plays.run(work.id, play, work.checking, told)

    async def _lock(self, operation_id: str, name: str) -> str | None:
        if not self._locks.take([name], operation_id):
            return self._locks.holder(name)
        now = self._clock.now()
        await self._db.write(lambda db: repository.take_locks(db, [name], operation_id, now))
        return None

    # -- telling

    def _changed(self, operation_id: str) -> asyncio.Future[None]:
        if operation_id not in self._news:
            self._news[operation_id] = asyncio.get_running_loop().create_future()
        return self._news[operation_id]

    def _tell_followers(self, operation_id: str) -> None:
        waiting = self._news.pop(operation_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _flushed(self, row: Operation, rows: list[Row]) -> None:
        self._tell_followers(row.id)
        self._announce(row)
        for each in rows:
            if each["node_id"] is not None and each["text"]:
                self._bus.publish("log", lambda each=each: _line(each))  # type: ignore[misc]

    def _announce(self, row: Operation) -> None:
        fields = ("id", "kind", "state", "step", "progress", "node_ids", "last_event")
        self._bus.publish("operation_update", lambda: {name: getattr(row, name) for name in fields})


def _line(row: Row) -> dict[str, Any]:
    level = "error" if row["type"] in ("failed", "unreachable") else "info"
    return {"node_id": row["node_id"], "timestamp": rfc3339(row["at"]), "level": level, "message": row["text"], "source": "operation"}


def _lose(db: Any, operation_id: str, now: float, reason: str) -> None:
    repository.move(db, operation_id, OperationState.RUNNING, state=OperationState.LOST, reason=reason, ended_at=now)
    repository.free_locks(db, operation_id)
