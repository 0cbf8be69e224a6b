"""SQL of callers' keys."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, tuple_, update

from fleet_api.idempotency.keys import RequestKey
from fleet_api.idempotency.models import IdempotencyKey
from fleet_api.jobs.models import JobTable

keys = IdempotencyKey.__table__  # type: ignore[attr-defined]
jobs = JobTable.__table__  # type: ignore[attr-defined]


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
    values = {"body_hash": once.body_hash, "status": status, "response": response, "job_ids": job_ids, "created_at": now}
    db.execute(delete(keys).where(_is(once)))
    db.execute(insert(keys).values(caller=once.caller, row=once.row, key=once.key, **values))


def answered(db: Connection, once: RequestKey, status: int, response: str | None) -> None:
    """Note how the request under a stored key was answered."""
    db.execute(update(keys).where(_is(once)).values(status=status, response=response))


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
