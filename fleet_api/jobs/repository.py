"""SQL of jobs. Every change of state is compare-and-set: it returns whether the row was still as expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, delete, func, insert, select, update

from fleet_api.jobs.models import Attempt, Job, JobTable, JobTally
from fleet_api.jobs.states import JobState, Outcome

jobs = JobTable.__table__  # type: ignore[attr-defined]
attempts = Attempt.__table__  # type: ignore[attr-defined]
tally = JobTally.__table__  # type: ignore[attr-defined]

_JOBS = TypeAdapter(list[Job])
_COLUMNS = [column.name for column in jobs.columns]
_INSERT_MANY = (
    f"INSERT INTO jobs ({', '.join(_COLUMNS)}) SELECT "
    + ", ".join(f"value {'->' if name == 'payload' else '->>'} '$.{name}'" for name in _COLUMNS)
    + " FROM json_each(?)"
)


def add_many(db: Connection, new: Sequence[Job]) -> None:
    """Insert jobs as one statement, so that the interpreter's lock changes hands once and not once a row: 9 us a job, not 135."""
    db.exec_driver_sql(_INSERT_MANY, (_JOBS.dump_json(list(new)).decode(),))


def last_seq(db: Connection) -> int:
    """Return the highest ``seq`` there is; 0 if there is none."""
    return db.execute(select(func.max(jobs.c.seq))).scalar_one() or 0


def get(db: Connection, job_id: str) -> Job | None:
    """Return one job."""
    row = db.execute(select(jobs).where(jobs.c.id == job_id)).mappings().first()
    return Job(**row) if row else None


def in_state(db: Connection, *states: JobState) -> list[Job]:
    """Return every job in these states, oldest first."""
    rows = db.execute(select(jobs).where(jobs.c.state.in_(states)).order_by(jobs.c.seq)).mappings()
    return [Job(**row) for row in rows]


def page(db: Connection, state: str | None, job_type: str | None, limit: int, offset: int) -> tuple[list[Job], int]:
    """Return a page of jobs, newest first, and the number of all that match.

    Its rows are found in an index alone, counted from whichever end is nearer: under 50 ms at any place in a million.
    """
    wanted = [column == value for column, value in ((jobs.c.state, state), (jobs.c.job_type, job_type)) if value]
    counted = [column == value for column, value in ((tally.c.state, state), (tally.c.job_type, job_type)) if value]
    total = db.execute(select(func.coalesce(func.sum(tally.c.number), 0)).where(*counted)).scalar_one()
    limit = min(limit, total - offset)
    if limit <= 0:
        return [], total
    found = select(jobs.c.seq).where(*wanted)
    if offset <= total // 2:
        found = found.order_by(jobs.c.seq.desc()).limit(limit).offset(offset)
    else:
        found = found.order_by(jobs.c.seq).limit(limit).offset(total - offset - limit)
    rows = db.execute(select(jobs).where(jobs.c.seq.in_(found)).order_by(jobs.c.seq.desc())).mappings()
    return [Job(**row) for row in rows], total


def counts(db: Connection) -> list[tuple[str, str, int, int]]:
    """Return the number of jobs by (state, type, -1 for low, 0 for normal and 1 for high priority)."""
    query = select(tally.c.state, tally.c.job_type, tally.c.priority, tally.c.number)
    return [tuple(row) for row in db.execute(query)]


def completed_since(db: Connection, since: float) -> int:
    """Return how many jobs were completed after ``since``."""
    state = jobs.c.state.concat("")  # so that the index on finished_at is used, and not the one on state
    query = select(func.count()).select_from(jobs).where(state == JobState.COMPLETED, jobs.c.finished_at > since)
    return int(db.execute(query).scalar_one())


def recent_runs(db: Connection, limit: int) -> list[tuple[str, str | None, dict[str, Any], float, float | None, int]]:
    """Return node, model, payload, seconds, seconds of loading and how many were made together of the last completed attempts.

    Oldest first. What was given to a node at the same moment was given as one batch.
    """
    newest = select(jobs.c.id).where(jobs.c.state == JobState.COMPLETED, jobs.c.finished_at.is_not(None))
    newest = newest.order_by(jobs.c.finished_at.desc()).limit(limit)
    took = attempts.c.ended_at - attempts.c.started_at
    together = func.count().over(partition_by=[attempts.c.node_id, attempts.c.started_at])
    query = (
        select(attempts.c.node_id, jobs.c.model, jobs.c.payload, took, attempts.c.load_seconds, together)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.job_id.in_(newest), attempts.c.outcome == Outcome.COMPLETED, attempts.c.ended_at.is_not(None))
        .order_by(attempts.c.ended_at)
    )
    return [tuple(row) for row in db.execute(query)]


def started_after(db: Connection, seq: int, limit: int) -> list[tuple[int, bool, int]]:
    """Return (priority, front, seq) of the jobs younger than ``seq`` that were started, oldest first."""
    query = select(jobs.c.priority, jobs.c.front, jobs.c.seq).where(jobs.c.seq > seq, jobs.c.attempt > 0, jobs.c.state != JobState.QUEUED)
    return [tuple(row) for row in db.execute(query.order_by(jobs.c.seq).limit(limit))]


@dataclass(frozen=True, slots=True)
class LeasedTo:
    """Who is given a job, by which request, and why."""

    node_id: str
    incarnation: str
    request_id: str
    reason: str


def lease(db: Connection, job_id: str, to: LeasedTo, overtaken: int, now: float) -> Job | None:
    """Give a queued job, ``overtaken`` so often, to a node as a new attempt; None if it is no longer queued."""
    changed = db.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED)
        .values(
            state=JobState.PROCESSING, attempt=jobs.c.attempt + 1, node_id=to.node_id, incarnation=to.incarnation,
            request_id=to.request_id, started_at=now, step=0, error=None, not_before=None, overtaken=overtaken,
        )
    )  # fmt: skip
    if changed.rowcount != 1:
        return None
    job = get(db, job_id)
    assert job is not None
    db.execute(insert(attempts).values(job_id=job_id, attempt=job.attempt, node_id=to.node_id, started_at=now, reason=to.reason))
    return job


def end_attempt(
    db: Connection,
    job: Job,
    outcome: Outcome,
    now: float,
    error: str | None = None,
    digest: str | None = None,
    load_seconds: float | None = None,
    **values: Any,
) -> bool:
    """Close the attempt that ``job`` shows and set the job's columns; False if it is not the open one any more."""
    changed = db.execute(
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.state == JobState.PROCESSING, jobs.c.attempt == job.attempt)
        .values(error=error, request_id=None, **values)
    )
    if changed.rowcount != 1:
        return False
    db.execute(
        update(attempts)
        .where(attempts.c.job_id == job.id, attempts.c.attempt == job.attempt)
        .values(ended_at=now, outcome=outcome, error=error, digest=digest, load_seconds=load_seconds)
    )
    return True


def given_since(db: Connection, since: float) -> dict[tuple[str, float], int]:
    """Return how many jobs each node was given at each moment since then, whatever became of them: those of a moment were one batch.

    Looked for among the jobs that are open or ended since, which are found by their indexes, and not in all attempts ever made.
    """
    tried = (jobs.c.state.in_((JobState.QUEUED, JobState.PROCESSING))) & (jobs.c.attempt > 0)
    near = select(jobs.c.id).where(tried).union_all(select(jobs.c.id).where(jobs.c.finished_at >= since))
    query = select(attempts.c.node_id, attempts.c.started_at, func.count()).where(
        attempts.c.job_id.in_(near), attempts.c.started_at >= since
    )
    found = db.execute(query.group_by(attempts.c.node_id, attempts.c.started_at))
    return {(node_id, started_at): number for node_id, started_at, number in found}


def parted(db: Connection) -> list[str]:
    """Return the jobs that have not ended of which an attempt was in a batch that broke."""
    open_ones = select(jobs.c.id).where(jobs.c.state.in_((JobState.QUEUED, JobState.PROCESSING)), jobs.c.attempt > 0)
    query = select(attempts.c.job_id).where(attempts.c.job_id.in_(open_ones), attempts.c.outcome == Outcome.PARTED)
    return list(db.execute(query.distinct()).scalars())


def cancel_queued(db: Connection, job_id: str, now: float) -> bool:
    """Cancel a job that waits; False if it no longer does."""
    changed = db.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED).values(state=JobState.CANCELLED, finished_at=now)
    )
    return bool(changed.rowcount == 1)


def requeue_ended(db: Connection, job_id: str, now: float) -> bool:
    """Queue a failed or cancelled job again, with its failures forgotten; False if it is in another state."""
    changed = db.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_((JobState.FAILED, JobState.CANCELLED)))
        .values(
            state=JobState.QUEUED, failures=0, losses=0, overtaken=0, avoid=None, not_before=None, node_id=None, incarnation=None,
            request_id=None, error=None, step=0, queued_at=now, started_at=None, finished_at=None,
        )
    )  # fmt: skip
    return bool(changed.rowcount == 1)


def attempt_row(db: Connection, job_id: str, attempt: int) -> Attempt | None:
    """Return one attempt."""
    row = db.execute(select(attempts).where(attempts.c.job_id == job_id, attempts.c.attempt == attempt)).mappings().first()
    return Attempt(**row) if row else None


def attempts_of(db: Connection, job_id: str) -> list[Attempt]:
    """Return a job's attempts in order."""
    rows = db.execute(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.attempt)).mappings()
    return [Attempt(**row) for row in rows]


def states_of(db: Connection, job_ids: Sequence[str]) -> dict[str, str]:
    """Return the states of those jobs that there are."""
    found: dict[str, str] = {}
    for start in range(0, len(job_ids), 500):
        rows = db.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(job_ids[start : start + 500])))
        found.update((job_id, state) for job_id, state in rows)
    return found


def cancel_every_queued(db: Connection, now: float) -> None:
    """Cancel all jobs that wait, in one statement."""
    db.execute(update(jobs).where(jobs.c.state == JobState.QUEUED).values(state=JobState.CANCELLED, finished_at=now))


def ended_before(db: Connection, before: float | None, keep: int | None, limit: int) -> list[int]:
    """Return the ``seq`` of ended jobs, oldest first, that ended before ``before`` or are beyond the newest ``keep``."""
    states = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
    total = db.execute(select(func.coalesce(func.sum(tally.c.number), 0)).where(tally.c.state.in_(states))).scalar_one()
    over = max(0, total - keep) if keep is not None else 0
    oldest = select(jobs.c.seq, jobs.c.finished_at).where(jobs.c.finished_at.is_not(None)).order_by(jobs.c.finished_at).limit(limit)
    return [seq for place, (seq, ended) in enumerate(db.execute(oldest)) if place < over or (before is not None and ended < before)]


def remove(db: Connection, seqs: Sequence[int]) -> None:
    """Delete jobs and their attempts."""
    ids = select(jobs.c.id).where(jobs.c.seq.in_(seqs))
    db.execute(delete(attempts).where(attempts.c.job_id.in_(ids)))
    db.execute(delete(jobs).where(jobs.c.seq.in_(seqs)))
