"""SQL of the doors."""

from __future__ import annotations

from sqlalchemy import Connection, and_, false, insert, or_, update

from fleet_api.access.models import EnrolmentToken

tokens = EnrolmentToken.__table__  # type: ignore[attr-defined]


def add_token(db: Connection, token_hash: str, now: float, expires_at: float) -> None:
    """Store a new token's hash."""
    db.execute(insert(tokens).values(token_hash=token_hash, created_at=now, expires_at=expires_at))


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
