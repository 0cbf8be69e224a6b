"""Brings waiting agents and waiting jobs together, woken by either; nothing here polls.

An agent's long poll leaves a :class:`Waiter`. A wake-up asks the scheduling rule for assignments, writes them in one
transaction, and answers the polls it served. What could not be written goes back to where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from fleet_api.jobs import repository
from fleet_api.jobs.held import OpenLeases
from fleet_api.jobs.index import QueueIndex
from fleet_api.jobs.models import Job
from fleet_api.kit.background import in_background
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.nodes.live import LiveNode
from fleet_api.scheduling.types import Assignment, Rule, Worker

log = structlog.get_logger()

RETRY_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Waiter:
    """An agent's open long poll. The future's result is the job it got, or None: ask again."""

    node: LiveNode
    incarnation: str
    request_id: str
    want_job: bool
    closed: bool = False
    future: asyncio.Future[Job | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def answer(self, job: Job | None) -> None:
        """Answer the poll once."""
        if not self.future.done():
            self.future.set_result(job)


class Dispatcher:
    """One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock, index: QueueIndex, leases: OpenLeases, rule: Rule) -> None:
        self._db = db
        self._clock = clock
        self._index = index
        self._leases = leases
        self._rule = rule
        self._waiters: dict[str, Waiter] = {}
        self._granting: dict[str, Waiter] = {}
        self._closed = False
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look again: a job or an agent has come."""
        self._wake.set()

    def poll(self, waiter: Waiter) -> None:
        """Take in an agent's poll; an older one of the same node is answered empty."""
        older = self._waiters.get(waiter.node.id)
        if older is not None:
            older.answer(None)
        if self._closed:
            waiter.answer(None)
            return
        self._waiters[waiter.node.id] = waiter
        if waiter.want_job:
            self.wake()

    async def granted(self, node_id: str) -> None:
        """Return once no grant to this node is under way, so that a repeated request sees what its first was given."""
        waiter = self._granting.get(node_id)
        if waiter is not None:
            await asyncio.wait({waiter.future})

    async def drop(self, waiter: Waiter) -> Job | None:
        """End a poll whose time is over; return the job that was being granted to it at this moment, if any."""
        waiter.closed = True
        if self._waiters.get(waiter.node.id) is waiter:
            del self._waiters[waiter.node.id]
            return None
        if self._granting.get(waiter.node.id) is waiter:
            return await waiter.future
        return waiter.future.result() if waiter.future.done() and not waiter.future.cancelled() else None

    def abandon(self, waiter: Waiter) -> None:
        """Forget a poll whose caller is gone; a grant under way stands, and the caller's repeat is given it."""
        waiter.closed = True
        if self._waiters.get(waiter.node.id) is waiter:
            del self._waiters[waiter.node.id]

    def interrupt(self, node_id: str) -> None:
        """Answer a node's poll empty, so that it hears at once of what it should stop."""
        waiter = self._waiters.pop(node_id, None)
        if waiter is not None:
            waiter.answer(None)

    def close(self) -> None:
        """Answer every poll empty, now and from now on: the control plane is stopping."""
        self._closed = True
        for node_id in list(self._waiters):
            self.interrupt(node_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Dispatch in the background while the context is open; then every open poll is answered empty."""
        try:
            async with in_background(self._run(), "dispatcher"):
                yield
        finally:
            self.close()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._round()
            except Exception as error:
                log.error("dispatch_failed", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _round(self) -> None:
        idle = {node_id: waiter for node_id, waiter in self._waiters.items() if waiter.want_job and waiter.node.online}
        if not idle or not len(self._index):
            return
        workers: list[Worker] = [waiter.node.worker() for waiter in idle.values()]
        assignments = self._rule(self._index.servable_by, workers)
        chosen = [(each, self._waiters.pop(each.node_id)) for each in assignments]
        if not chosen:
            return
        self._granting.update({waiter.node.id: waiter for _, waiter in chosen})
        now = self._clock.now()
        granted: list[Job | None] = [None] * len(chosen)
        try:
            granted = await self._db.write(lambda db: [_grant(db, each, waiter, now) for each, waiter in chosen])
            for (assignment, _), job in zip(chosen, granted, strict=True):
                self._index.remove(assignment.job_id)
                if job is not None:
                    self._index.overtake(assignment.passed_over)
                    self._leases.open(job, self._clock.monotonic())
        finally:
            for (_, waiter), job in zip(chosen, granted, strict=True):
                del self._granting[waiter.node.id]
                if job is None:  # cancelled while the decision was made, or not written
                    self._put_back(waiter)
                else:
                    waiter.node.jobs[job.id] = job.attempt
                    waiter.answer(job)
        if None in granted:
            self.wake()

    def _put_back(self, waiter: Waiter) -> None:
        if waiter.closed or self._closed or waiter.node.id in self._waiters:
            waiter.answer(None)
        else:
            self._waiters[waiter.node.id] = waiter


def _grant(db: Connection, assignment: Assignment, waiter: Waiter, now: float) -> Job | None:
    job = repository.lease(db, assignment.job_id, waiter.node.id, waiter.incarnation, waiter.request_id, now)
    if job is not None:
        repository.note_overtaken(db, assignment.passed_over)
    return job
