"""Brings waiting agents and waiting jobs together, woken by either; nothing here polls.

An agent's long poll leaves a :class:`Waiter`. A wake-up asks the scheduling rule what the idle agents are to do, writes the jobs given
out in one transaction, and answers the polls it served. What could not be written goes back to where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from fleet_api.jobs import repository
from fleet_api.jobs.crew import Crew
from fleet_api.jobs.held import OpenLeases
from fleet_api.jobs.index import QueueIndex
from fleet_api.jobs.models import Job
from fleet_api.kit.background import in_background
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.nodes.live import LiveNode
from fleet_api.scheduling.smart import MOST_AT_ONCE, decide
from fleet_api.scheduling.types import Assignment, Load

log = structlog.get_logger()

RETRY_SECONDS = 1.0


Answer = list[Job] | Load | None


@dataclass(slots=True, eq=False)
class Waiter:
    """An agent's open long poll. The future's result is the jobs it got, the model to load, or None: ask again."""

    node: LiveNode
    incarnation: str
    request_id: str
    want_job: bool
    batch_limit: int = 1
    closed: bool = False
    future: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def answer(self, answer: Answer) -> None:
        """Answer the poll once."""
        if not self.future.done():
            self.future.set_result(answer)


class Dispatcher:
    """One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock, index: QueueIndex, leases: OpenLeases, crew: Crew) -> None:
        self._db = db
        self._clock = clock
        self._index = index
        self._leases = leases
        self._crew = crew
        self._waiters: dict[str, Waiter] = {}
        self._granting: dict[str, Waiter] = {}
        self._told: dict[str, tuple[str, Load]] = {}
        self._closed = False
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look again: a job or an agent has come."""
        self._wake.set()

    async def look_again(self) -> None:
        """Wake where time alone may have changed something: a job kept back is due, a quarantine is over, a job has become old."""
        if len(self._index) or any(waiter.node.wish is not None for waiter in self._waiters.values()):
            self.wake()

    def poll(self, waiter: Waiter) -> None:
        """Take in an agent's poll; an older one of the same node is answered empty."""
        older = self._waiters.get(waiter.node.id)
        if older is not None:
            older.answer(None)
        if self._closed:
            waiter.answer(None)
            return
        self._waiters[waiter.node.id] = waiter
        waiter.node.worker.batch = waiter.batch_limit
        if waiter.want_job:
            self._crew.asks(waiter.node)
            self.wake()
        else:
            self._crew.pauses(waiter.node)

    def told(self, node_id: str, request_id: str) -> Load | None:
        """Return what this very request of the node was told to load: it is repeated where the answer was lost."""
        found = self._told.get(node_id)
        return found[1] if found is not None and found[0] == request_id else None

    async def granted(self, node_id: str) -> None:
        """Return once no grant to this node is under way, so that a repeated request sees what its first was given."""
        waiter = self._granting.get(node_id)
        if waiter is not None:
            await asyncio.wait({waiter.future})

    async def drop(self, waiter: Waiter) -> Answer:
        """End a poll whose time is over; return what was being given to it at this moment, if anything."""
        waiter.closed = True
        if self._waiters.get(waiter.node.id) is waiter:
            self._take(waiter.node.id)
            return None
        if self._granting.get(waiter.node.id) is waiter:
            return await waiter.future
        return waiter.future.result() if waiter.future.done() and not waiter.future.cancelled() else None

    def abandon(self, waiter: Waiter) -> None:
        """Forget a poll whose caller is gone; a grant under way stands, and the caller's repeat is given it."""
        waiter.closed = True
        if self._waiters.get(waiter.node.id) is waiter:
            self._take(waiter.node.id)

    def interrupt(self, node_id: str) -> None:
        """Answer a node's poll empty, so that it hears at once of what it should stop."""
        if node_id in self._waiters:
            self._take(node_id).answer(None)

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
        self._index.release()
        self._grant_wishes()
        if not any(waiter.want_job for waiter in self._waiters.values()) or not len(self._index.waiting):
            return
        decisions = decide(self._index.waiting, self._crew.workers(), self._clock.monotonic())
        for load in (each for each in decisions if isinstance(each, Load)):
            self._tell(self._take(load.node_id), load)
        chosen = [(each, self._take(each.node_id)) for each in decisions if isinstance(each, Assignment)]
        if chosen:
            await self._give(chosen)
        if len(decisions) >= MOST_AT_ONCE:
            self.wake()

    def _grant_wishes(self) -> None:
        """Have idle agents load what somebody told them to."""
        for waiter in [each for each in self._waiters.values() if each.want_job and each.node.wish is not None]:
            wish = waiter.node.wish
            if wish not in waiter.node.worker.skills.models and wish in waiter.node.worker.to_come.models:
                continue  # it is being fetched
            waiter.node.wish = None
            if wish is not None and wish != waiter.node.loaded_model:
                self._tell(self._take(waiter.node.id), Load(waiter.node.id, wish, "somebody asked for it"))

    def _tell(self, waiter: Waiter, load: Load) -> None:
        self._crew.loads(waiter.node, load.model)
        self._told[waiter.node.id] = waiter.request_id, load
        log.info("model_load", node=load.node_id, model=load.model, why=load.reason)
        waiter.answer(load)

    async def _give(self, chosen: list[tuple[Assignment, Waiter]]) -> None:
        self._granting.update({waiter.node.id: waiter for _, waiter in chosen})
        now = self._clock.now()
        overtaken = {job.id: self._index.waiting.overtaken(job.id) for each, _ in chosen for job in each.jobs}
        granted: list[list[Job]] = [[] for _ in chosen]
        try:
            granted = await self._db.write(lambda db: [_grant(db, each, waiter, overtaken, now) for each, waiter in chosen])
            for (assignment, _), jobs in zip(chosen, granted, strict=True):
                started = {job.id for job in jobs}
                for each in assignment.jobs:
                    self._index.remove(each.id, started=each.id in started)
                for job in jobs:
                    self._leases.open(job, self._clock.monotonic(), len(jobs))
        finally:
            for (_, waiter), jobs in zip(chosen, granted, strict=True):
                del self._granting[waiter.node.id]
                if not jobs:  # cancelled while the decision was made, or not written
                    self._put_back(waiter)
                else:
                    waiter.node.jobs.update({job.id: job.attempt for job in jobs})
                    self._crew.starts(waiter.node, jobs)
                    waiter.answer(jobs)
        if [] in granted:
            self.wake()

    def _take(self, node_id: str) -> Waiter:
        """Take a node's poll out of those that wait; it is idle no more."""
        waiter = self._waiters.pop(node_id)
        self._crew.pauses(waiter.node)
        return waiter

    def _put_back(self, waiter: Waiter) -> None:
        if waiter.closed or self._closed or waiter.node.id in self._waiters:
            waiter.answer(None)
        else:
            self._waiters[waiter.node.id] = waiter
            self._crew.asks(waiter.node)


def _grant(db: Connection, assignment: Assignment, waiter: Waiter, overtaken: dict[str, int], now: float) -> list[Job]:
    granted: list[Job] = []
    for each in assignment.jobs:
        reason = f"it is made together with {granted[0].id}" if granted else assignment.reason
        to = repository.LeasedTo(waiter.node.id, waiter.incarnation, waiter.request_id, reason)
        job = repository.lease(db, each.id, to, overtaken[each.id], now)
        if job is not None:
            granted.append(job)
    return granted
