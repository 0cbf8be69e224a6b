"""The guard of each row: who calls, may they, not too often; and a line in the audit log for what changes something.

It stands between the router and the row's own code, so that nothing of a refused request's body is read.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import TYPE_CHECKING

import structlog
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_api.access.audit import path_of
from fleet_api.access.callers import SCOPE_KEY, UNKNOWN, Caller, Role
from fleet_api.access.door import REQUEST_ID_KEY
from fleet_api.access.policy import AGENT, CREATES, EXECUTES, ROLES
from fleet_api.access.recognise import WANTED_HEADERS, Credential, credential_of, recognise
from fleet_api.access.refusal import POLICY_VIOLATION, refuse
from fleet_api.errors import FleetError, Forbidden, Unauthorized

if TYPE_CHECKING:
    from fleet_api.lifespan import State

log = structlog.get_logger()

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "x-csrf-token"
RECHECK_SECONDS = 2.0
"""How often an open WebSocket's key is looked at again."""


class Guard:
    """ASGI: one row's own application with its guard before it. ``row`` is its method and path, as in the policy."""

    def __init__(self, app: ASGIApp, row: str) -> None:
        self.app = app
        self.row = row
        self.wanted = ROLES[row]
        self.audited = row.split()[0] not in SAFE and row.split()[0] != "WS" and self.wanted != AGENT

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fleet: State = scope["app"].state.fleet
        credential: Credential | None = None
        caller: Caller | None = None
        started, status, answered = time.perf_counter(), 500, False

        async def watched(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                if self.audited:
                    self._note(fleet, scope, caller, status)
            await send(message)

        try:
            try:
                connection = HTTPConnection(scope)
                credential, caller = await self._recognise(fleet, connection)
                self._admit(fleet, connection, caller, credential)
            except FleetError as error:
                await refuse(scope, receive, watched, error)
                return
            scope[SCOPE_KEY] = caller
            if scope["type"] == "websocket":
                with fleet.metrics.sockets(self.row).track_inprogress():
                    await self._serve_socket(fleet, connection, credential, receive, send)
            else:
                await self.app(scope, receive, watched)
        finally:
            if self.audited and not answered:  # an error of its own, or a caller who hung up
                self._note(fleet, scope, caller, status)
            if scope["type"] == "http":
                fleet.metrics.request(self.row, status, time.perf_counter() - started)

    async def _recognise(self, fleet: State, connection: HTTPConnection) -> tuple[Credential | None, Caller | None]:
        try:
            credential = credential_of(connection, fleet.settings.cookie)
            return credential, await recognise(fleet, connection, credential)
        except Unauthorized as error:
            if self.wanted == Role.ANYONE:
                return None, None
            if self.wanted == AGENT:
                raise Unauthorized("The agent's credential is missing or unknown; enrol the agent again.", WANTED_HEADERS) from None
            error.headers = WANTED_HEADERS
            raise

    def _admit(self, fleet: State, connection: HTTPConnection, caller: Caller | None, credential: Credential | None) -> None:
        """Raise Unauthorized, Forbidden or RateLimited unless this caller may use this row now."""
        limits = fleet.limits if self.row in CREATES else fleet.exec_limits if self.row in EXECUTES else None
        if limits is not None and (caller is None or caller.kind in ("key", "open")):
            limits.take(caller.id if caller is not None and caller.kind == "key" else _address(connection.scope))
        if self.wanted == Role.ANYONE:
            return
        if caller is None or (self.wanted == AGENT and credential is None):
            what = "an agent's credential" if self.wanted == AGENT else "a key"
            raise Unauthorized(f"This wants {what}: send it as 'Authorization: Bearer ...'.", WANTED_HEADERS)
        if self.wanted == AGENT:
            if caller.kind != "agent":
                raise Forbidden("Only an agent's credential reaches this.")
            return
        if caller.kind == "agent":
            raise Forbidden("An agent's credential reaches only its own heartbeats, leases and uploads.")
        if caller.role < self.wanted:
            raise Forbidden(f"This wants the role {self.wanted.name.lower()}; key {caller.name!r} has the role {caller.role.name.lower()}.")
        changes = connection.scope["type"] == "http" and connection.scope["method"] not in SAFE
        if changes and caller.csrf_token and not _same(connection.headers.get(CSRF_HEADER, ""), caller.csrf_token):
            raise Forbidden("A signed-in browser's changes want the session's X-CSRF-Token header; reload the page.")

    async def _serve_socket(
        self, fleet: State, connection: HTTPConnection, credential: Credential | None, receive: Receive, send: Send
    ) -> None:
        """Serve a WebSocket until it ends, or until its key is revoked or expires."""
        if credential is None:
            await self.app(connection.scope, receive, send)
            return

        async def watch() -> None:
            while True:
                await asyncio.sleep(RECHECK_SECONDS)
                try:
                    await recognise(fleet, connection, credential)
                except Unauthorized:
                    return
                except Exception:
                    log.exception("recheck_failed")  # a locked database is no reason to hang up

        serving = asyncio.ensure_future(self.app(connection.scope, receive, send))
        watching = asyncio.ensure_future(watch())
        try:
            await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "The key is no longer good."})
                return
        finally:
            watching.cancel()
            serving.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await serving

    def _note(self, fleet: State, scope: Scope, caller: Caller | None, status: int) -> None:
        who = scope.get(SCOPE_KEY) or caller or UNKNOWN  # a row that anyone may call says itself whom it found
        fleet.audit.note(
            caller_kind=who.kind, caller_id=who.id, caller_name=who.name, address=_address(scope), row=self.row,
            path=path_of(scope), status=status, request_id=scope[REQUEST_ID_KEY],
        )  # fmt: skip


def _same(shown: str, expected: str) -> bool:
    return hmac.compare_digest(shown.encode(), expected.encode())


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""
