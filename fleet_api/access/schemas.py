"""Bodies and answers of the doors."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from fleet_api.access.callers import Caller
from fleet_api.access.models import ApiKey, AuditEntry
from fleet_api.kit.clock import rfc3339
from fleet_api.kit.fields import RequestBody, Text

RoleName = Literal["viewer", "operator", "admin"]
YEARS_TEN = 3650.0


class KeyBody(RequestBody):
    """A key to make."""

    name: Text = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]*$", examples=["alice"])
    role: RoleName = Field(examples=["operator"], description="viewer looks; operator makes and cancels jobs; admin may do everything")
    expires_in_days: float | None = Field(None, gt=0, le=YEARS_TEN, description="How long it is good for; without it, until revoked")


class KeyView(BaseModel):
    """A key, without the key itself. ``hint`` is its beginning; ``status`` is active, revoked or expired."""

    id: str
    name: str
    role: RoleName
    hint: str
    status: Literal["active", "revoked", "expired"]
    created_at: str
    created_by: str
    expires_at: str | None
    last_used_at: str | None
    last_used_from: str | None

    @classmethod
    def of(cls, key: ApiKey, now: float) -> KeyView:
        """Return a key as callers see it."""
        expired = key.expires_at is not None and key.expires_at <= now
        return cls(
            id=key.id, name=key.name, role=key.role, hint=key.hint + "...", created_by=key.created_by,
            status="revoked" if key.revoked_at is not None else "expired" if expired else "active",
            created_at=rfc3339(key.created_at) or "", expires_at=rfc3339(key.expires_at),
            last_used_at=rfc3339(key.last_used_at), last_used_from=key.last_used_from,
        )  # fmt: skip


class NewKey(KeyView):
    """A key that was just made: the only answer that ever holds the key."""

    key: str


class KeyList(BaseModel):
    """Every key, newest first."""

    keys: list[KeyView]


class SignIn(RequestBody):
    """What a browser signs in with."""

    key: Text = Field(min_length=1, max_length=500)


class SessionView(BaseModel):
    """Who calls. ``csrf_token`` is what a signed-in browser's changes must send as X-CSRF-Token; null for others."""

    name: str
    role: RoleName
    kind: str = Field(examples=["key"], description="key; local (this machine, no key wanted); open (auth is off)")
    csrf_token: str | None

    @classmethod
    def of(cls, caller: Caller) -> SessionView:
        """Return who calls."""
        return cls(name=caller.name, role=caller.role.name.lower(), kind=caller.kind, csrf_token=caller.csrf_token)


class AuditView(BaseModel):
    """One request that changed something, or tried to."""

    seq: int
    at: str
    caller_kind: str
    caller_id: str
    caller_name: str
    address: str
    row: str = Field(examples=["POST /api/queue/jobs"])
    path: str
    status: int
    request_id: str

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditView:
        """Return an entry as callers see it."""
        return cls(**{**entry.model_dump(), "at": rfc3339(entry.at)})


class AuditPage(BaseModel):
    """Entries, newest first; ``next`` is the ``before`` of the next page, or null."""

    entries: list[AuditView]
    next: int | None


class TokenBody(RequestBody):
    """An enrolment token to make."""

    node_id: Text | None = Field(
        None, min_length=1, max_length=48, pattern="^[a-z0-9]+(-[a-z0-9]+)*$", examples=["agx0"], description="The only node it is good for"
    )
    expires_in_minutes: float = Field(60, gt=0, le=7 * 24 * 60)


class TokenView(BaseModel):
    """A token: good for one enrolment. It ends with the node's id, where it is for one, and the hash of the certificate authority."""

    token: str
    node_id: str | None
    expires_at: str
