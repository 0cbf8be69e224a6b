"""SQL of the doors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, false, func, insert, or_, select, update

from fleet_api.access.models import ApiKey, AuditEntry, BrowserSession, EnrolmentToken

tokens = EnrolmentToken.__table__  # type: ignore[attr-defined]
keys = ApiKey.__table__  # type: ignore[attr-defined]
sessions = BrowserSession.__table__  # type: ignore[attr-defined]
audit = AuditEntry.__table__  # type: ignore[attr-defined]

SESSIONS_PER_KEY = 100


def add_token(db: Connection, token_hash: str, node_id: str | None, now: float, expires_at: float) -> None:
    """Store a new token's hash."""
    db.execute(insert(tokens).values(token_hash=token_hash, node_id=node_id, created_at=now, expires_at=expires_at))


def token(db: Connection, token_hash: str) -> EnrolmentToken | None:
    """Return a token, used or not."""
    row = db.execute(select(tokens).where(tokens.c.token_hash == token_hash)).mappings().first()
    return EnrolmentToken(**row) if row else None


def use_token(db: Connection, token_hash: str, node_id: str, request_id: str, now: float) -> bool:
    """Spend a token; False if it is unknown, expired, or was spent by another request."""
    fresh = tokens.c.used_at.is_(None)
    repeated = and_(tokens.c.used_by == node_id, tokens.c.used_request == request_id) if request_id else false()
    spent = db.execute(
        update(tokens)
        .where(tokens.c.token_hash == token_hash, tokens.c.expires_at > now, or_(fresh, repeated))
        .values(used_at=now, used_by=node_id, used_request=request_id or None)
    )
    return spent.rowcount == 1


def add_key(db: Connection, key: ApiKey) -> None:
    """Store a new key."""
    db.execute(insert(keys).values(**key.model_dump()))


def key_by_hash(db: Connection, key_hash: str) -> ApiKey | None:
    """Return the key with this hash."""
    row = db.execute(select(keys).where(keys.c.key_hash == key_hash)).mappings().first()
    return ApiKey(**row) if row else None


def key(db: Connection, key_id: str) -> ApiKey | None:
    """Return one key."""
    row = db.execute(select(keys).where(keys.c.id == key_id)).mappings().first()
    return ApiKey(**row) if row else None


def keys_named(db: Connection, name: str) -> list[ApiKey]:
    """Return the keys of this name that are not revoked."""
    rows = db.execute(select(keys).where(keys.c.name == name, keys.c.revoked_at.is_(None))).mappings()
    return [ApiKey(**row) for row in rows]


def every_key(db: Connection) -> list[ApiKey]:
    """Return all keys, newest first."""
    return [ApiKey(**row) for row in db.execute(select(keys).order_by(keys.c.created_at.desc(), keys.c.id)).mappings()]


def revoke_key(db: Connection, key_id: str, now: float) -> bool:
    """Revoke a key and end its sessions; False if it is unknown or revoked already."""
    changed = db.execute(update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now))
    db.execute(delete(sessions).where(sessions.c.key_id == key_id))
    return bool(changed.rowcount == 1)


def remove_key(db: Connection, key_id: str) -> None:
    """Delete a key and its sessions."""
    db.execute(delete(sessions).where(sessions.c.key_id == key_id))
    db.execute(delete(keys).where(keys.c.id == key_id))


def note_use(db: Connection, used: Mapping[str, tuple[float, str]]) -> None:
    """Note when, and from where, keys were last used."""
    for key_id, (at, address) in used.items():
        db.execute(update(keys).where(keys.c.id == key_id).values(last_used_at=at, last_used_from=address))


def add_session(db: Connection, session: BrowserSession) -> None:
    """Store a new session; drop those that have expired, and the key's oldest beyond :data:`SESSIONS_PER_KEY`."""
    db.execute(delete(sessions).where(sessions.c.expires_at <= session.created_at))
    db.execute(insert(sessions).values(**session.model_dump()))
    newest = select(sessions.c.token_hash).where(sessions.c.key_id == session.key_id).order_by(sessions.c.created_at.desc())
    db.execute(delete(sessions).where(sessions.c.key_id == session.key_id, sessions.c.token_hash.not_in(newest.limit(SESSIONS_PER_KEY))))


def session_key(db: Connection, token_hash: str, now: float) -> ApiKey | None:
    """Return the key that a session which has not expired was opened with."""
    query = select(keys).join(sessions, sessions.c.key_id == keys.c.id)
    row = db.execute(query.where(sessions.c.token_hash == token_hash, sessions.c.expires_at > now)).mappings().first()
    return ApiKey(**row) if row else None


def end_session(db: Connection, token_hash: str) -> None:
    """End a session."""
    db.execute(delete(sessions).where(sessions.c.token_hash == token_hash))


def add_audit(db: Connection, entries: Sequence[Mapping[str, Any]]) -> None:
    """Append audit entries."""
    db.execute(insert(audit), entries)


def audit_page(
    db: Connection, limit: int, before: int | None, caller_id: str | None, since: float | None, until: float | None
) -> list[AuditEntry]:
    """Return a page of the audit log, newest first, from below ``before``."""
    query = select(audit)
    if caller_id is not None:
        query = query.where(audit.c.caller_id == caller_id)
    if before is not None:
        query = query.where(audit.c.seq < before)
    if since is not None:
        query = query.where(audit.c.seq >= _first_since(db, since))
    if until is not None:
        query = query.where(audit.c.seq < _first_since(db, until))
    return [AuditEntry(**row) for row in db.execute(query.order_by(audit.c.seq.desc()).limit(limit)).mappings()]


def trim_audit(db: Connection, before: float | None, keep: int | None, limit: int) -> int:
    """Delete the oldest entries that are over the age or beyond the newest ``keep``, no more than ``limit``; return how many."""
    first, last = (db.execute(select(end(audit.c.seq))).scalar_one() for end in (func.min, func.max))
    if first is None or last is None:
        return 0
    bound = max(first, last - keep + 1 if keep is not None else first, _first_since(db, before) if before is not None else first)
    return db.execute(delete(audit).where(audit.c.seq < min(bound, first + limit))).rowcount


def _first_since(db: Connection, at: float) -> int:
    """Return the ``seq`` of the first entry from then on; beyond the last if there is none. Both only ever grow together."""
    found = db.execute(select(audit.c.seq).where(audit.c.at >= at).order_by(audit.c.at, audit.c.seq).limit(1)).scalar_one_or_none()
    return found if found is not None else (db.execute(select(func.max(audit.c.seq))).scalar_one() or 0) + 1


def forget_ended(db: Connection, before: float, limit: int) -> int:
    """Delete tokens, sessions and keys that had ended by then (expired, used up or revoked); return how many."""
    ended = 0
    for table, column, end in (
        (tokens, tokens.c.token_hash, tokens.c.expires_at < before),
        (sessions, sessions.c.token_hash, sessions.c.expires_at < before),
        (keys, keys.c.id, or_(keys.c.revoked_at < before, keys.c.expires_at < before)),
    ):
        ended += db.execute(delete(table).where(column.in_(select(column).where(end).limit(limit)))).rowcount
    return ended
