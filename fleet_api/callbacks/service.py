"""Callbacks as callers see them: what became of a job's messages, and sending one again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from fleet_api.callbacks import repository
from fleet_api.callbacks.courier import Courier
from fleet_api.callbacks.models import Delivery
from fleet_api.callbacks.states import NOT_SENT, DeliveryState
from fleet_api.errors import NotFound
from fleet_api.jobs.models import Job
from fleet_api.jobs.states import ENDED
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database


class Callbacks:
    """One instance a process."""

    def __init__(self, db: Database, clock: Clock, courier: Courier) -> None:
        self.courier = courier
        self._db = db
        self._clock = clock

    async def states(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Return where the message of each of these jobs stands that has a callback. Nothing is read where none has."""
        wanted = {job.id: job for job in jobs if job.callback_url}
        if not wanted:
            return {}
        found = await self._db.read(lambda db: repository.latest_states(db, list(wanted)))
        return {
            job_id: found.get(job_id, NOT_SENT) if job.state in ENDED else DeliveryState.PENDING.value for job_id, job in wanted.items()
        }

    async def page(self, job_id: str, limit: int, offset: int) -> tuple[list[Delivery], int]:
        """Return a page of a job's messages, newest first, and the number of all. Raises NotFound."""
        found = await self._db.read(lambda db: repository.page(db, job_id, limit, offset))
        if found is None:
            raise NotFound(f"There is no job {job_id!r}.")
        return found

    async def replay(self, job_id: str, delivery_id: str) -> Delivery:
        """Send a message again at once, whatever became of it, with all of its retries before it. Raises NotFound and Conflict."""
        now = self._clock.now()

        def change(db: Connection) -> Delivery | None:
            row = repository.get(db, delivery_id)
            if row is None or row.job_id != job_id:
                return None
            repository.change(db, row.id, status=DeliveryState.PENDING, failures=0, next_attempt_at=now)
            return repository.get(db, row.id)

        with self.courier.kept_back(delivery_id):
            row = await self._db.write(change)
        if row is None:
            raise NotFound(f"Job {job_id!r} has no delivery {delivery_id!r}.")
        return row
