"""What is old is deleted, by age and by count: ended jobs with their attempts and messages, audit entries, what no longer opens a door.

It goes in batches of :data:`BATCH` rows, each a write of its own of about 10 ms, with a pause between them at least as long, so
that whoever else writes waits no longer than for one batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from fleet_api.access import repository as access
from fleet_api.callbacks import repository as callbacks
from fleet_api.idempotency import repository as repeats
from fleet_api.idempotency.service import KEPT_SECONDS
from fleet_api.jobs import repository as jobs
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.operations import repository as operations
from fleet_api.settings import Settings

log = structlog.get_logger()

BATCH = 500
SECONDS_A_DAY = 86_400.0
ENDED_KEPT_DAYS = 365.0
"""How long keys that were revoked or expired, and tokens and sessions that ended, are still listed."""


class Retention:
    """One instance a process."""

    def __init__(self, db: Database, clock: Clock, settings: Settings) -> None:
        self._db = db
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Delete all that is over its age or count."""
        kept, now = self._settings, self._clock.now()
        await self._clean("jobs", lambda db: _jobs(db, _before(now, kept.keep_jobs_days), kept.keep_jobs))
        await self._clean("operations", lambda db: _operations(db, _before(now, kept.keep_operations_days), kept.keep_operations))
        await self._clean("audit", lambda db: access.trim_audit(db, _before(now, kept.keep_audit_days), kept.keep_audit, BATCH))
        await self._clean("ended_access", lambda db: access.forget_ended(db, now - ENDED_KEPT_DAYS * SECONDS_A_DAY, BATCH))
        await self._clean("idempotency_keys", lambda db: repeats.forget(db, now - KEPT_SECONDS, BATCH))

    async def _clean(self, what: str, batch: Callable[[Connection], int]) -> None:
        total = 0
        while True:
            started = time.monotonic()
            deleted = await self._db.write(batch)
            total += deleted
            if not deleted:
                break
            await asyncio.sleep(max(0.005, time.monotonic() - started))
        if total:
            log.info("old_rows_deleted", what=what, number=total)


def _before(now: float, days: float | None) -> float | None:
    return None if days is None else now - days * SECONDS_A_DAY


def _operations(db: Connection, before: float | None, keep: int | None) -> int:
    found = operations.ended_before(db, before, keep, BATCH // 10)  # each has some hundred events
    operations.remove(db, found)
    return len(found)


def _jobs(db: Connection, before: float | None, keep: int | None) -> int:
    found = jobs.ended_before(db, before, keep, BATCH)
    callbacks.forget(db, found)
    jobs.remove(db, found)
    return len(found)
