"""Tables of the doors."""

from __future__ import annotations

from sqlmodel import Field

from fleet_api.kit.table import Table


class EnrolmentToken(Table, table=True):
    """A token with which one agent may enrol, once. Only its hash is stored."""

    __tablename__ = "enrolment_tokens"

    token_hash: str = Field(primary_key=True)
    created_at: float
    expires_at: float
    used_at: float | None = None
    used_by: str | None = None
    used_request: str | None = None
