"""SQL of callbacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from fleet_api.callbacks.models import Delivery, WebhookSecret
from fleet_api.jobs.models import JobTable

deliveries = Delivery.__table__  # type: ignore[attr-defined]
secrets = WebhookSecret.__table__  # type: ignore[attr-defined]
jobs = JobTable.__table__  # type: ignore[attr-defined]


def add(db: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert messages."""
    db.execute(insert(deliveries), rows)


def get(db: Connection, delivery_id: str) -> Delivery | None:
    """Return one message."""
    row = db.execute(select(deliveries).where(deliveries.c.id == delivery_id)).mappings().first()
    return Delivery(**row) if row else None


def page(db: Connection, job_id: str, limit: int, offset: int) -> tuple[list[Delivery], int] | None:
    """Return a page of a job's messages, newest first, and the number of all; None if there is no such job."""
    if db.execute(select(jobs.c.id).where(jobs.c.id == job_id)).first() is None:
        return None
    total = db.execute(select(func.count()).select_from(deliveries).where(deliveries.c.job_id == job_id)).scalar_one()
    query = select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.seq.desc()).limit(limit).offset(offset)
    return [Delivery(**row) for row in db.execute(query).mappings()], total


def latest_states(db: Connection, job_ids: Collection[str]) -> dict[str, str]:
    """Return the state of the newest message of each of these jobs that has one."""
    query = select(deliveries.c.job_id, deliveries.c.status).where(deliveries.c.job_id.in_(job_ids)).order_by(deliveries.c.seq)
    return {job_id: status for job_id, status in db.execute(query)}  # noqa: C416 - rows are no pairs to the type checker


def due(db: Connection, now: float, beyond: float, without: Collection[str], hosts: Collection[str], limit: int) -> list[Delivery]:
    """Return messages that are due, the longest due first, but ``without`` some, and to none of the ``hosts``.

    One that is due later than ``beyond`` is due now: the clock was wrong when that was written.
    """
    time = deliveries.c.next_attempt_at
    query = select(deliveries).where(time.is_not(None), or_(time <= now, time > beyond))
    query = query.where(deliveries.c.id.not_in(without), deliveries.c.host.not_in(hosts)).order_by(time, deliveries.c.seq)
    return [Delivery(**row) for row in db.execute(query.limit(limit)).mappings()]


def next_due(db: Connection, now: float) -> float | None:
    """Return when the first message is due of those that are not yet."""
    time = deliveries.c.next_attempt_at
    found: float | None = db.execute(select(func.min(time)).where(time.is_not(None), time > now)).scalar_one()
    return found


def change(db: Connection, delivery_id: str, **values: Any) -> None:
    """Set columns of one message."""
    db.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def forget(db: Connection, seqs: Sequence[int]) -> None:
    """Delete the messages of jobs, which are named by their ``seq``."""
    ids = select(jobs.c.id).where(jobs.c.seq.in_(seqs), jobs.c.callback_url.is_not(None))
    db.execute(delete(deliveries).where(deliveries.c.job_id.in_(ids)))


def signing(db: Connection, since: float) -> list[WebhookSecret]:
    """Return the present secret and those that were replaced after ``since``, newest first."""
    wanted = or_(secrets.c.replaced_at.is_(None), secrets.c.replaced_at > since)
    query = select(secrets).where(wanted).order_by(secrets.c.replaced_at.is_not(None), secrets.c.created_at.desc())
    return [WebhookSecret(**row) for row in db.execute(query).mappings()]


def add_secret(db: Connection, row: WebhookSecret) -> None:
    """Insert a secret."""
    db.execute(insert(secrets).values(**row.model_dump()))


def replace_secret(db: Connection, row: WebhookSecret, forget_before: float) -> None:
    """Insert the secret that takes the present one's place; delete those that were replaced before then."""
    db.execute(delete(secrets).where(secrets.c.replaced_at < forget_before))
    db.execute(update(secrets).where(secrets.c.replaced_at.is_(None)).values(replaced_at=row.created_at))
    add_secret(db, row)
