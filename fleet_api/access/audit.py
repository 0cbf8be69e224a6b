"""The audit log: every request that changed something, or tried to.

An entry is handed to the database's writer as the answer leaves, and is on disk with its next commit, some milliseconds later:
a kill in between loses it. Job submissions share those commits, so that the log costs a row and not an fsync a request.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Scope

from fleet_api.access import repository
from fleet_api.access.limits import RateLimits
from fleet_api.access.models import AuditEntry
from fleet_api.errors import RateLimited
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.kit.redact import redact

log = structlog.get_logger()

REFUSED_PER_MINUTE, REFUSED_BURST = 60, 200
"""How many refused requests of one caller are kept; of the rest the log tells the number, so that nobody can push the others out."""

TELL_SECONDS = 60.0
SUBJECT_KEY = "fleet.audited_as"
PATH_LENGTH = 500


def audited_as(connection: HTTPConnection, subject: str) -> None:
    """Have the request's audit entry name what it hit, where its path does not: such as a node, and the command for it."""
    connection.scope[SUBJECT_KEY] = subject


def path_of(scope: Scope) -> str:
    """Return what an audit entry keeps of a request's path and subject: no secrets, and a bound on its length."""
    subject = scope.get(SUBJECT_KEY)
    text = redact(scope["path"][:PATH_LENGTH] + (f" {subject}" if subject else ""))
    return text[:PATH_LENGTH]


class AuditLog:
    """One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._refusals = RateLimits(clock, REFUSED_PER_MINUTE, REFUSED_BURST)
        self._left_out = 0
        self._told_at = 0.0
        self._waiting: list[dict[str, Any]] = []
        self._writing: asyncio.Task[None] | None = None

    def note(self, **entry: Any) -> None:
        """Append an entry; ``entry`` holds the columns but ``seq`` and ``at``."""
        if entry["status"] >= 400 and not self._kept(entry["caller_id"] or entry["address"]):
            return
        self._waiting.append({**entry, "at": self._clock.now()})
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="audit")

    async def page(
        self, limit: int, before: int | None, caller_id: str | None, since: float | None, until: float | None
    ) -> list[AuditEntry]:
        """Return a page of entries, newest first."""
        await self.settled()
        return await self._db.read(lambda db: repository.audit_page(db, limit, before, caller_id, since, until))

    async def settled(self) -> None:
        """Wait until what was noted so far is on disk, or could not be put there."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    def _kept(self, caller: str) -> bool:
        try:
            self._refusals.take(caller)
        except RateLimited:
            self._left_out += 1
            if self._clock.monotonic() - self._told_at > TELL_SECONDS:
                log.warning("refusals_not_audited", number=self._left_out, latest=caller)
                self._told_at, self._left_out = self._clock.monotonic(), 0
            return False
        return True

    async def _write(self) -> None:
        try:
            while self._waiting:
                entries, self._waiting = self._waiting, []
                try:
                    await self._db.write(lambda db, entries=entries: repository.add_audit(db, entries))  # type: ignore[misc]
                except Exception as error:
                    log.error("audit_not_saved", reason=str(error), entries=entries)
        finally:
            self._writing = None
