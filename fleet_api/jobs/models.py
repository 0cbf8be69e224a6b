"""Tables of jobs and their attempts. Times are epoch seconds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Index, text
from sqlmodel import Field, SQLModel

from fleet_api.kit.table import Table


class Job(SQLModel):
    """A job as plain values. ``seq`` is its age: smaller is older. ``front`` puts it before all others of its priority,
    ``not_before`` keeps it back after a failure, ``caller`` is whom its share of the fleet is counted to.

    Kept apart from its table, as an instance of a table class costs 120 us to make, and this 6.
    """

    seq: int = Field(primary_key=True)
    id: str = Field(unique=True)
    door: str
    job_type: str
    state: str
    priority: int = 0
    front: bool = False
    model: str | None = None
    cluster: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, nullable=False)
    callback_url: str | None = None
    max_retries: int = 3
    timeout_seconds: float = 3600
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    overtaken: int = 0
    avoid: str | None = None
    node_id: str | None = None
    incarnation: str | None = None
    request_id: str | None = None
    step: int = 0
    steps: int = 0
    created_at: float
    queued_at: float
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    target_node: str | None = None
    caller: str = Field(default="", sa_column_kwargs={"server_default": ""})
    not_before: float | None = None


class JobTable(Job, Table, table=True):
    """The table of jobs."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_seq", "seq"),  # narrow: a page deep in a million rows is found in it, not in the rows
        Index("ix_jobs_state_seq", "state", "seq"),
        Index("ix_jobs_type_seq", "job_type", "seq"),
        Index("ix_jobs_state_type_seq", "state", "job_type", "seq"),
        Index("ix_jobs_finished_at", "finished_at", sqlite_where=text("finished_at IS NOT NULL")),
    )


class JobTally(Table, table=True):
    """How many jobs there are of each kind; kept by triggers on the table of jobs, so that no page counts a million rows."""

    __tablename__ = "job_tally"

    state: str = Field(primary_key=True)
    job_type: str = Field(primary_key=True)
    priority: int = Field(primary_key=True)
    """-1 low, 0 normal, 1 high."""

    number: int = 0


class Attempt(Table, table=True):
    """One try at a job, on one node."""

    __tablename__ = "job_attempts"

    job_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    node_id: str
    started_at: float
    ended_at: float | None = None
    outcome: str | None = None
    error: str | None = None
    digest: str | None = None
    reason: str | None = None
    load_seconds: float | None = None
