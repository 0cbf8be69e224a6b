"""Table of pinned SSH host keys."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field

from fleet_api.kit.table import Table


class HostKey(Table, table=True):
    """The host keys of one SSH server, as they were at first contact; and another one it showed since, which was refused.

    ``keys`` and ``changed_keys`` are lines of public keys (``ssh-ed25519 AAAA...``), fingerprints are ``SHA256:...``.
    """

    __tablename__ = "host_keys"

    address: str = Field(primary_key=True)
    port: int = Field(primary_key=True)
    keys: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    fingerprint: str
    pinned_at: float
    pinned_by: str = ""
    changed_keys: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    changed_fingerprint: str | None = None
    changed_at: float | None = None
