"""Delivers what is due: so many at once, and few at once to one host, so that a dead receiver holds up nobody else.

Rows are the truth. A message is due while its row says when; what is under way is known in memory alone, so that a restart finds it due
again: each message arrives at least once, under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog
from sqlalchemy import Connection

from fleet_api.access.vault.keyring import VaultLocked
from fleet_api.adapters.http_out.types import HttpOut, NotReached
from fleet_api.callbacks import backoff, repository, signing
from fleet_api.callbacks.models import Delivery
from fleet_api.callbacks.secrets import WebhookSecrets
from fleet_api.callbacks.states import DeliveryState, Outcome, after, read
from fleet_api.errors import Conflict
from fleet_api.kit.background import in_background
from fleet_api.kit.clock import Clock, rfc3339
from fleet_api.kit.db import Database
from fleet_api.version import __version__

log = structlog.get_logger()

AT_ONCE = 32
AT_ONCE_A_HOST = 2
KEPT_ATTEMPTS = 20
"""So many of a message's attempts are kept, the newest."""

LOOK_SECONDS = 30.0
"""The rows are looked at no less often than that: the wall clock may be set."""

TROUBLE_SECONDS = 5.0


class Courier:
    """One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock, http: HttpOut, secrets: WebhookSecrets) -> None:
        self.http = http
        self.attempts = dict.fromkeys(DeliveryState, 0)
        """How many attempts left a message in each state, since the start."""

        self._db = db
        self._clock = clock
        self._secrets = secrets
        self._under_way: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()  # a row that was read before its attempt ended must not be taken for due after it

    def wake(self) -> None:
        """Look at the rows at once: one of them is new, or due."""
        self._woken.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the context is open; attempts under way at its end are given up, and due again after the next start."""
        async with in_background(self._run(), "courier"):
            yield
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def kept_back(self, delivery_id: str) -> Iterator[None]:
        """Keep a message from being delivered meanwhile. Raises Conflict where it is being delivered."""
        if delivery_id in self._under_way:
            raise Conflict(f"Delivery {delivery_id} is under way just now; look at it again in a moment.")
        self._under_way[delivery_id] = ""
        try:
            yield
        finally:
            del self._under_way[delivery_id]
            self.wake()

    async def round(self) -> float:
        """Start what is due and has room; return the seconds until more may be due."""
        async with self._looking:
            return await self._look()

    async def settled(self) -> None:
        """Wait until nothing is under way any more."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> float:
        now = self._clock.now()
        while (room := AT_ONCE - len(self._under_way)) > 0:
            without, hosts = list(self._under_way), self._full_hosts()
            beyond = now + backoff.LONGEST
            found = await self._db.read(lambda db: repository.due(db, now, beyond, without, hosts, room))  # noqa: B023
            if not [row for row in found if self._start(row)]:
                break
        following = await self._db.read(lambda db: repository.next_due(db, now))
        return LOOK_SECONDS if following is None else min(LOOK_SECONDS, max(0.0, following - now))

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                pause = await self.round()
            except Exception:
                log.exception("callbacks_not_looked_at")
                pause = TROUBLE_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    def _full_hosts(self) -> list[str]:
        return [host for host, number in Counter(self._under_way.values()).items() if host and number >= AT_ONCE_A_HOST]

    def _start(self, row: Delivery) -> bool:
        if row.id in self._under_way or row.host in self._full_hosts():
            return False
        self._under_way[row.id] = row.host
        task = asyncio.create_task(self._deliver(row), name="callback")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _deliver(self, row: Delivery) -> None:
        try:
            started, at = self._clock.monotonic(), self._clock.now()
            outcome = await self._attempt(row, at)
            took = self._clock.monotonic() - started
            try:
                state = await self._db.write(lambda db: self._note(db, row.id, outcome, at, took))
            except Exception as error:
                log.error("callback_not_noted", delivery=row.id, reason=str(error))
                await asyncio.sleep(TROUBLE_SECONDS)  # it is due still, and must not go out again and again meanwhile
            else:
                if state is not None:
                    self.attempts[state] += 1
                tell = log.info if outcome.taken else log.warning
                tell(
                    "callback", job=row.job_id, delivery=row.id, host=row.host, status=outcome.status_code, state=state, error=outcome.error
                )
        finally:
            del self._under_way[row.id]
            self.wake()

    async def _attempt(self, row: Delivery, at: float) -> Outcome:
        body = row.body.encode()
        try:
            secrets = await self._secrets.signing()
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"fleet-commander/{__version__}",
                **signing.headers(secrets, row.id, int(at), body),
            }
            answer = await self.http.post(row.url, headers, body)
            return read(answer.status, backoff.retry_after(answer.retry_after, self._clock.now()))
        except NotReached as error:
            return Outcome(error=str(error))
        except VaultLocked as error:
            return Outcome(error=f"It could not be signed: {error.detail}")
        except Exception:
            log.exception("callback_attempt_broke", delivery=row.id)
            return Outcome(error="It could not be sent; the control plane's log says why.")

    def _note(self, db: Connection, delivery_id: str, outcome: Outcome, at: float, took: float) -> DeliveryState | None:
        row = repository.get(db, delivery_id)
        if row is None:  # its job was deleted meanwhile
            return None
        failures = 0 if outcome.taken else row.failures + 1
        state, wait = after(outcome, failures)
        now = self._clock.now()
        attempt: dict[str, Any] = {"at": rfc3339(at), "seconds": round(took, 3)}
        if outcome.status_code is not None:
            attempt["status_code"] = outcome.status_code
        if outcome.error is not None:
            attempt["error"] = outcome.error
        repository.change(
            db, delivery_id, status=state, failures=failures, attempts=[*row.attempts, attempt][-KEPT_ATTEMPTS:],
            next_attempt_at=now + wait if wait is not None else None, delivered_at=now if outcome.taken else row.delivered_at,
        )  # fmt: skip
        return state
