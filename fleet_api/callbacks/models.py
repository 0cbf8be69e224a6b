"""Tables of callbacks. Times are epoch seconds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Index, Text, text
from sqlmodel import Field

from fleet_api.kit.table import Table


class Delivery(Table, table=True):
    """One message about one end of a job, for one receiver. It is due while it has ``next_attempt_at``."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_due", "next_attempt_at", "host", sqlite_where=text("next_attempt_at IS NOT NULL")),
        Index("ix_deliveries_job_id_seq", "job_id", "seq"),
    )

    seq: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    """The message's ``webhook-id``: the same at every attempt, so that a receiver can tell a repeat."""

    job_id: str
    event: str
    url: str
    host: str
    """Host and port of ``url``: what is not called too often at once."""

    status: str
    body: str = Field(sa_column=Column(Text, nullable=False))
    failures: int = 0
    """Failed attempts in a row, since it was made or replayed."""

    attempts: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    next_attempt_at: float | None = None
    created_at: float
    delivered_at: float | None = None


class WebhookSecret(Table, table=True):
    """A secret that messages are signed with, sealed as the vault seals; one that was replaced signs until it is deleted."""

    __tablename__ = "webhook_secrets"

    id: str = Field(primary_key=True)
    sealed: str
    key_id: str = Field(index=True)
    created_at: float
    replaced_at: float | None = None
