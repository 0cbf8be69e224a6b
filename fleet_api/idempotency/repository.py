"""SQL of callers' keys."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, delete, func, select, tuple_

from fleet_api.idempotency.keys import RequestKey
from fleet_api.idempotency.models import IdempotencyKey
from fleet_api.jobs.models import JobTable

keys = IdempotencyKey.__table__  # type: ignore[attr-defined]
jobs = JobTable.__table__  # type: ignore[attr-defined]

# The driver's own: these two come with each job that is submitted under a key, and through Core they are ten times dearer.
_PUT = (
    "INSERT OR REPLACE INTO idempotency_keys (caller, row, key, body_hash, status, response, job_ids, created_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_ANSWERED = "UPDATE idempotency_keys SET status = ?, response = ? WHERE caller = ? AND row = ? AND key = ?"


def find(db: Connection, once: RequestKey, since: float) -> IdempotencyKey | None:
    """Return what a key was used for after ``since``."""
    row = db.execute(select(keys).where(_is(once), keys.c.created_at > since)).mappings().first()
    return IdempotencyKey(**row) if row else None


def jobs_left(db: Connection, job_ids: list[str]) -> int:
    """Return how many of these jobs there are."""
    return int(db.execute(select(func.count()).select_from(jobs).where(jobs.c.id.in_(job_ids))).scalar_one())


def add(
    db: Connection, once: RequestKey, now: float, job_ids: list[str] | None = None, status: int | None = None, response: str | None = None
) -> None:
    """Store a key, in place of one that is too old to count."""
    made = json.dumps(job_ids) if job_ids is not None else None
    db.exec_driver_sql(_PUT, (*once.whose, once.body_hash, status, response, made, now))


def answered(db: Connection, said: Sequence[tuple[RequestKey, int, str]]) -> None:
    """Note how the requests under stored keys were answered."""
    db.exec_driver_sql(_ANSWERED, [(status, response, *once.whose) for once, status, response in said])


def remove(db: Connection, once: RequestKey) -> None:
    """Forget a key: the request under it failed."""
    db.execute(delete(keys).where(_is(once)))


def forget(db: Connection, before: float, limit: int) -> int:
    """Delete keys that were used before then; return how many."""
    whose = tuple_(keys.c.caller, keys.c.row, keys.c.key)
    old = select(keys.c.caller, keys.c.row, keys.c.key).where(keys.c.created_at < before).limit(limit)
    return db.execute(delete(keys).where(whose.in_(old))).rowcount


def _is(once: RequestKey) -> ColumnElement[bool]:
    whose: ColumnElement[bool] = (keys.c.caller == once.caller) & (keys.c.row == once.row) & (keys.c.key == once.key)
    return whose
