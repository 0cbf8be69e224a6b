"""Table of credentials."""

from __future__ import annotations

from sqlmodel import Field

from fleet_api.kit.table import Table


class Credential(Table, table=True):
    """How to sign in to machines. ``sealed`` is an envelope: text that only the master key ``key_id`` opens."""

    __tablename__ = "credentials"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    username: str
    kinds: str = ""
    sealed: str
    key_id: str = Field(index=True)
    version: int = 1
    created_at: float
    updated_at: float
    last_used_at: float | None = None
