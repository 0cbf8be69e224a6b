"""Table of callers' keys."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Text
from sqlmodel import Field

from fleet_api.kit.table import Table


class IdempotencyKey(Table, table=True):
    """A key of one caller at one row of the API, and how the request under it was answered.

    There is no ``response`` while the answer is on its way to disk, where it showed a secret, and where it was a picture. ``job_ids``
    are the jobs that the request made.
    """

    __tablename__ = "idempotency_keys"

    caller: str = Field(primary_key=True)
    row: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    body_hash: str
    status: int | None = None
    response: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    job_ids: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    created_at: float = Field(index=True)
