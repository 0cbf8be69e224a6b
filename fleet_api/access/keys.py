"""Keys: made, listed, revoked, and recognised in every request.

A key is shown once, when it is made; only its hash is stored. What a key may do is remembered for :data:`REMEMBERED_SECONDS`,
so that a key in use costs one query a second: one revoked by the API stops at once, one revoked by the command within that time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from fleet_api.access import repository
from fleet_api.access.callers import Caller, Role
from fleet_api.access.models import ApiKey, BrowserSession
from fleet_api.errors import Conflict, NotFound, Unauthorized
from fleet_api.kit.clock import Clock
from fleet_api.kit.crypto import fingerprint, new_secret
from fleet_api.kit.db import Database, DatabaseUnusable

log = structlog.get_logger()

KEY_PREFIX = "fleet-key"
SESSION_PREFIX = "fleet-session"
SESSION_SECONDS = 12 * 3600.0
REMEMBERED_SECONDS = 1.0
REMEMBERED_KEYS = 10_000
HINT_LENGTH = len(KEY_PREFIX) + 5


async def create_key(
    db: Database, clock: Clock, name: str, role: Role, lifetime: float | None = None, created_by: str = "command"
) -> tuple[ApiKey, str]:
    """Make a key; return its row, and the key itself, which is nowhere else. Raises Conflict if the name is taken."""
    secret = new_secret(KEY_PREFIX)
    now = clock.now()
    row = ApiKey(
        id=str(uuid.uuid4()), name=name, role=role.name.lower(), hint=secret[:HINT_LENGTH], key_hash=fingerprint(secret), created_at=now,
        created_by=created_by, expires_at=now + lifetime if lifetime else None,
    )  # fmt: skip

    def store(connection: Connection) -> None:
        if repository.keys_named(connection, name):
            raise Conflict(f"There is a key named {name!r} already; revoke it first, or choose another name.")
        repository.add_key(connection, row)

    await db.write(store)
    return row, secret


async def revoke_key(db: Database, clock: Clock, key_id: str) -> ApiKey:
    """Revoke a key by its id or name, and end its sessions. Raises NotFound and Conflict."""
    now = clock.now()

    def change(connection: Connection) -> ApiKey:
        named = repository.keys_named(connection, key_id)
        row = repository.key(connection, key_id) or (named[0] if named else None)
        if row is None:
            raise NotFound(f"There is no key {key_id!r}; 'fleet keys list' shows them.")
        if not repository.revoke_key(connection, row.id, now):
            raise Conflict(f"Key {row.name!r} was revoked before.")
        row.revoked_at = now
        return row

    return await db.write(change)


async def forget_key(db: Database, key_id: str) -> None:
    """Remove a key that was made for one command; nothing of it stays but the audit's rows."""
    await db.write(lambda connection: repository.remove_key(connection, key_id))


def csrf_token(session: str) -> str:
    """Return what a signed-in browser's changing requests must send along; it tells nothing about the session."""
    return fingerprint("csrf " + session)


class KeyService:
    """Recognises callers. One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._known: dict[str, tuple[ApiKey, float]] = {}
        self._used: dict[str, tuple[float, str]] = {}
        self._revocations = 0

    async def caller_with_key(self, secret: str, address: str) -> Caller:
        """Return who holds this key. Raises Unauthorized for one that is unknown, revoked or expired."""
        digest = fingerprint(secret)
        row = await self._recall(digest, lambda db: repository.key_by_hash(db, digest))
        if row is None:
            raise Unauthorized("The key is not known; an admin makes one with 'fleet keys create'.")
        return self._caller(row, address)

    async def caller_with_session(self, session: str, address: str) -> Caller:
        """Return who signed in with this cookie. Raises Unauthorized for a session that has ended."""
        digest, now = fingerprint(session), self._clock.now()
        row = await self._recall(digest, lambda db: repository.session_key(db, digest, now))
        if row is None:
            raise Unauthorized("The session has ended; sign in again.")
        return replace(self._caller(row, address), csrf_token=csrf_token(session))

    async def create(self, name: str, role: Role, lifetime: float | None, by: Caller) -> tuple[ApiKey, str]:
        """As :func:`create_key`, by a caller of the API."""
        return await create_key(self._db, self._clock, name, role, lifetime, by.name)

    async def every(self) -> list[ApiKey]:
        """Return all keys, newest first."""
        await self.flush()
        return await self._db.read(repository.every_key)

    async def revoke(self, key_id: str) -> ApiKey:
        """As :func:`revoke_key`; the key's next request is refused."""
        row = await revoke_key(self._db, self._clock, key_id)
        self._known.clear()
        self._revocations += 1
        return row

    async def sign_in(self, secret: str, address: str) -> tuple[Caller, str, float]:
        """Open a session with a key; return the caller, the cookie's value and the seconds it is good for."""
        caller = await self.caller_with_key(secret, address)
        digest, now = fingerprint(secret), self._clock.now()
        row = await self._recall(digest, lambda db: repository.key_by_hash(db, digest))
        if row is None:
            raise Unauthorized("The key is no longer known.")
        lifetime = min(SESSION_SECONDS, row.expires_at - now) if row.expires_at else SESSION_SECONDS
        session = new_secret(SESSION_PREFIX)
        stored = BrowserSession(token_hash=fingerprint(session), key_id=row.id, created_at=now, expires_at=now + lifetime)
        await self._db.write(lambda db: repository.add_session(db, stored))
        return replace(caller, csrf_token=csrf_token(session)), session, lifetime

    async def sign_out(self, session: str) -> None:
        """End a session."""
        digest = fingerprint(session)
        await self._db.write(lambda db: repository.end_session(db, digest))
        self._known.pop(digest, None)

    async def flush(self) -> None:
        """Write down when keys were last used."""
        used, self._used = self._used, {}
        if used:
            try:
                await self._db.write(lambda db: repository.note_use(db, used))
            except DatabaseUnusable as error:
                log.warning("key_use_not_saved", reason=error.detail)

    async def _recall(self, digest: str, find: Callable[[Connection], ApiKey | None]) -> ApiKey | None:
        now = self._clock.monotonic()
        found = self._known.get(digest)
        if found is not None and now - found[1] < REMEMBERED_SECONDS:
            return found[0]
        revocations = self._revocations
        row = await self._db.read(find)
        if row is None:
            self._known.pop(digest, None)
            return None
        if revocations != self._revocations:  # what was read may be older than the revocation
            return await self._recall(digest, find)
        if len(self._known) >= REMEMBERED_KEYS:
            self._known.clear()
        self._known[digest] = (row, now)
        return row

    def _caller(self, row: ApiKey, address: str) -> Caller:
        now = self._clock.now()
        if row.revoked_at is not None:
            raise Unauthorized(f"Key {row.name!r} was revoked.")
        if row.expires_at is not None and row.expires_at <= now:
            raise Unauthorized(f"Key {row.name!r} has expired; ask an admin for a new one.")
        self._used[row.id] = (now, address)
        return Caller("key", row.id, row.name, Role[row.role.upper()])
