"""Tables of the doors. Of secrets only hashes are stored. Times are epoch seconds."""

from __future__ import annotations

from sqlmodel import Field

from fleet_api.kit.table import Table


class EnrolmentToken(Table, table=True):
    """A token with which one agent may enrol, once; with ``node_id`` as that node and no other."""

    __tablename__ = "enrolment_tokens"

    token_hash: str = Field(primary_key=True)
    created_at: float
    expires_at: float
    used_at: float | None = None
    used_by: str | None = None
    used_request: str | None = None
    node_id: str | None = None


class ApiKey(Table, table=True):
    """A key with which a person or program calls. ``hint`` is its beginning, to tell keys apart."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    name: str
    role: str
    hint: str
    key_hash: str = Field(unique=True)
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    last_used_from: str | None = None


class BrowserSession(Table, table=True):
    """A browser that signed in with a key."""

    __tablename__ = "sessions"

    token_hash: str = Field(primary_key=True)
    key_id: str = Field(index=True)
    created_at: float
    expires_at: float


class AuditEntry(Table, table=True):
    """One request that changed something, or tried to: who, what, from where, and how it ended."""

    __tablename__ = "audit"

    seq: int | None = Field(default=None, primary_key=True)
    at: float = Field(index=True)
    caller_kind: str
    caller_id: str = Field(index=True)
    caller_name: str
    address: str
    row: str
    path: str
    status: int
    request_id: str
