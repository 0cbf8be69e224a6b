"""What the control plane does by the clock: APScheduler's triggers, jobs in code, last and next run in the database.

Runs that came due while the control plane was down are made up for once, if that was no longer ago than :data:`GRACE_SECONDS`;
otherwise the next one counts. A job never runs twice at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from pydantic import BaseModel

from fleet_api.errors import FleetError, NotFound
from fleet_api.kit.clock import Clock, rfc3339
from fleet_api.kit.db import Database
from fleet_api.operations import repository
from fleet_api.operations.models import ScheduledRun

log = structlog.get_logger()

GRACE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """Something to do by the clock. ``when`` is a crontab line in UTC, or seconds between two rounds."""

    name: str
    does: str
    when: str | float
    run: Callable[[], Awaitable[str | None]]


class ScheduleView(BaseModel):
    """A scheduled job."""

    name: str
    does: str
    when: str
    last_run: str | None
    next_run: str | None
    outcome: str | None


class Schedule:
    """One instance a process."""

    def __init__(self, db: Database, clock: Clock, jobs: list[ScheduledJob]) -> None:
        self._db = db
        self._clock = clock
        self._jobs = {job.name: job for job in jobs}
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": GRACE_SECONDS}
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run what comes due while the context is open."""
        stored = await self._db.read(repository.runs)
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        for job in self._jobs.values():
            trigger = (
                CronTrigger.from_crontab(job.when, UTC) if isinstance(job.when, str) else IntervalTrigger(seconds=job.when, timezone=UTC)
            )
            due = stored[job.name].next_run if job.name in stored else None
            missed = due is not None and 0 <= now.timestamp() - due <= GRACE_SECONDS
            first = now if missed else trigger.get_next_fire_time(None, now)
            self._scheduler.add_job(self._run, trigger, args=[job], id=job.name, name=job.does, next_run_time=first)
        self._scheduler.start()
        try:
            await self._keep_next()
            yield
        finally:
            self._scheduler.shutdown(wait=False)

    async def views(self) -> list[ScheduleView]:
        """Return every job by name, with its last and next run."""
        stored = await self._db.read(repository.runs)
        return [self._view(job, stored.get(name)) for name, job in sorted(self._jobs.items())]

    async def run_now(self, name: str) -> ScheduleView:
        """Run a job at once. Raises NotFound."""
        if name not in self._jobs:
            raise NotFound(f"There is no scheduled job {name!r}; the jobs are: {', '.join(sorted(self._jobs)) or 'none'}.")
        await self._run(self._jobs[name])
        return next(view for view in await self.views() if view.name == name)

    def _view(self, job: ScheduledJob, row: ScheduledRun | None) -> ScheduleView:
        when = job.when if isinstance(job.when, str) else f"every {job.when:g} s"
        return ScheduleView(
            name=job.name, does=job.does, when=when, last_run=rfc3339(row.last_run) if row else None,
            next_run=rfc3339(self._next(job.name)), outcome=row.outcome if row else None,
        )  # fmt: skip

    def _next(self, name: str) -> float | None:
        found = self._scheduler.get_job(name)
        return found.next_run_time.timestamp() if found is not None and found.next_run_time else None

    async def _run(self, job: ScheduledJob) -> None:
        started = self._clock.now()
        try:
            outcome = await job.run() or "done"
        except FleetError as error:
            outcome = error.detail
        except Exception:
            log.exception("scheduled_job_failed", job=job.name)
            outcome = "It failed; the control plane's log tells more."
        await self._keep(job.name, last_run=started, outcome=outcome)

    async def _keep_next(self) -> None:
        for name in self._jobs:
            await self._keep(name)

    async def _keep(self, name: str, **values: Any) -> None:
        values["next_run"] = self._next(name)

        await self._db.write(lambda db: repository.keep_run(db, name, **values))


def check_crontab(line: str) -> str:
    """Return a crontab line, or ``off``. Raises ValueError for one that cannot be read."""
    if line != "off":
        try:
            CronTrigger.from_crontab(line)
        except ValueError:
            raise ValueError("must be a crontab line such as '0 4 * * *', or off") from None
    return line
