"""Keys under which requests are at work, and how those before them were answered.

What is at work is known in memory alone: one process serves a data folder. Where a row of the API writes the key with what it makes, as
those that queue jobs do, a kill leaves both or neither; elsewhere the key is written as soon as the work is done, before the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from fleet_api.errors import Conflict, FleetError, IdempotencyMismatch
from fleet_api.idempotency import keys, repository
from fleet_api.idempotency.keys import HEADER, RequestKey
from fleet_api.idempotency.models import IdempotencyKey
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database

log = structlog.get_logger()

KEPT_SECONDS = 86_400.0
"""How long a key is remembered."""

LARGEST = 256 * 1024
"""Characters of an answer that are kept; a batch of 1,000 jobs has 40,000."""


class Said(NamedTuple):
    """An answer as it was given."""

    status: int
    body: str


class Repeats:
    """One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock, key_file: Path) -> None:
        self._db = db
        self._clock = clock
        self._key_file = key_file
        self._secret: bytes | None = None
        self._at_work: set[tuple[str, str, str]] = set()
        self._landing: dict[tuple[str, str, str], tuple[RequestKey, Said]] = {}
        self._writing: asyncio.Task[None] | None = None

    def key_of(self, caller: str, row: str, key: str, path: str, query: bytes, body: bytes) -> RequestKey:
        """Return the key of a request. Raises Unavailable where the data folder cannot be used."""
        if self._secret is None:
            self._secret = keys.hashing_key(self._key_file)
        return RequestKey(caller, row, key, keys.body_hash(self._secret, path, query, body))

    @contextmanager
    def alone(self, once: RequestKey) -> Iterator[None]:
        """Keep others from the same key meanwhile. Raises Conflict where one is at work."""
        if once.whose in self._at_work:
            raise Conflict(f"A request with {HEADER} {once.key!r} is still at work; try again in a moment.", {"Retry-After": "1"})
        self._at_work.add(once.whose)
        try:
            yield
        finally:
            self._at_work.discard(once.whose)

    async def earlier(self, once: RequestKey) -> Said | None:
        """Return how the request was answered before; None if it is new, or if what it made is known and its answer is not.

        Raises IdempotencyMismatch for another request, and Conflict where the answer was not kept or speaks of what was deleted.
        """
        if once.whose in self._landing:
            first, said = self._landing[once.whose]
            _refuse_other(once, first.body_hash)
            return said
        since = self._clock.now() - KEPT_SECONDS

        def find(db: Connection) -> tuple[IdempotencyKey | None, bool]:
            row = repository.find(db, once, since)
            gone = row is not None and row.job_ids is not None and repository.jobs_left(db, row.job_ids) < len(row.job_ids)
            return row, gone

        row, gone = await self._db.read(find)
        if row is None:
            return None
        _refuse_other(once, row.body_hash)
        if gone:
            raise Conflict(f"What was made with {HEADER} {once.key!r} was deleted for its age; use a new key.")
        if row.status is not None and row.response is not None:
            return Said(row.status, row.response)
        if row.job_ids is None:
            raise Conflict(f"What was made with {HEADER} {once.key!r} was shown once and its answer is not kept; use a new key.")
        once.job_ids, once.stored = row.job_ids, True
        return None

    async def answered(self, once: RequestKey, said: Said, keep: bool) -> None:
        """Note that a request went well; with ``keep``, also its answer, unless that is too large."""
        kept = said.body if keep and len(said.body) <= LARGEST else None
        if once.stored:  # the key is on disk: nobody has to wait for the answer to be there too
            if kept is not None:
                self._landing[once.whose] = once, said
                if self._writing is None:
                    self._writing = asyncio.create_task(self._land(), name="idempotency")
            return
        now = self._clock.now()
        await self._noted(lambda db: repository.add(db, once, now, status=said.status, response=kept))

    async def failed(self, once: RequestKey) -> None:
        """Forget a stored key whose request failed."""
        if once.stored:
            await self._noted(lambda db: repository.remove(db, once))

    async def settled(self) -> None:
        """Wait until the answers that were given are on disk."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    async def _land(self) -> None:
        """Write the answers; those that come while a write is under way share the next."""
        try:
            while self._landing:
                batch = dict(self._landing)
                said = [(once, *answer) for once, answer in batch.values()]
                await self._noted(lambda db, said=said: repository.answered(db, said))  # type: ignore[misc]
                for whose in batch:
                    del self._landing[whose]
        finally:
            self._writing = None

    async def _noted(self, write: Callable[[Connection], None]) -> None:
        try:
            await self._db.write(write)
        except FleetError as error:
            log.error("idempotency_key_not_noted", reason=error.detail)


def _refuse_other(once: RequestKey, body_hash: str) -> None:
    if body_hash != once.body_hash:
        raise IdempotencyMismatch(f"{HEADER} {once.key!r} was used before with another request; use a new key.")
