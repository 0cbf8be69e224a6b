"""Submissions on their way to disk: those that come while a write is under way share the next, as one statement.

At 64 callers this is what lets a submission cost little more than an endpoint that does nothing (``make bench``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fleet_api.jobs import repository
from fleet_api.jobs.models import Job
from fleet_api.kit.db import Database, DatabaseUnusable


@dataclass(slots=True)
class _Submission:
    jobs: list[Job]
    stored: asyncio.Future[None]


class Intake:
    """One instance a process, used on the event loop only."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: list[_Submission] = []
        self._pending = 0
        self._writing: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """How many jobs are on their way to disk."""
        return self._pending

    async def store(self, jobs: list[Job]) -> None:
        """Return once the jobs are on disk, all of them; or raise, and none is."""
        submission = _Submission(jobs, asyncio.get_running_loop().create_future())
        self._waiting.append(submission)
        self._pending += len(jobs)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="intake")
        try:
            await submission.stored
        finally:
            self._pending -= len(jobs)

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                if not await self._try(batch):
                    for each in batch:  # one of them is at fault; the others must not pay for it
                        await self._try([each])
        finally:
            self._writing = None

    async def _try(self, batch: list[_Submission]) -> bool:
        jobs = [job for each in batch for job in each.jobs]
        try:
            await self._db.write(lambda db: repository.add_many(db, jobs))
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, DatabaseUnusable):
                return False
            for each in batch:
                if not each.stored.done():
                    each.stored.set_exception(error)
        else:
            for each in batch:
                if not each.stored.done():
                    each.stored.set_result(None)
        return True
