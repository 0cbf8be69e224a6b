"""The door: what every request passes before any route is looked for.

It gives the request an id, refuses foreign ``Host`` and ``Origin`` headers, and finds out whether it comes from this machine.
10 us a request.
"""

from __future__ import annotations

import re
import uuid

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_api.access.origin import FORWARDING, host_allowed, host_name, is_loopback, origin_allowed
from fleet_api.access.refusal import refuse
from fleet_api.errors import FleetError, Forbidden
from fleet_api.kit.validation import shown

log = structlog.get_logger()

LOCAL_KEY = "fleet.local"
REQUEST_ID_KEY = "fleet.request_id"
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")

ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))


class Door:
    """ASGI middleware. ``hosts`` are the names, beside the address reached, by which callers may reach this; see ``origin.py``."""

    def __init__(self, app: ASGIApp, listens_on: str, hosts: frozenset[str], origins: frozenset[str]) -> None:
        self.app = app
        self.listens_on_loopback = is_loopback(listens_on)
        self.hosts = hosts
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        host = origin = request_id = b""
        forwarded = False
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"x-request-id":
                request_id = value
            elif name in FORWARDING:
                forwarded = True
        if not REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex.encode()
        scope[REQUEST_ID_KEY] = request_id.decode()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=scope[REQUEST_ID_KEY])
        answer = _labelled(send, request_id)

        host_text, origin_text = host.decode("latin-1"), origin.decode("latin-1")
        name, reached_at = host_name(host_text), scope["server"][0] if scope.get("server") else ""
        if not host_allowed(name, reached_at, self.hosts):
            sentence = f"Host {shown(host_text)} is not one of this control plane's names; the setting allowed_hosts adds one."
            await _turn_away(scope, receive, answer, "host", sentence)
            return
        if origin and not origin_allowed(origin_text, scope["scheme"], host_text, self.origins):
            sentence = f"Origin {shown(origin_text)} may not call this control plane; the setting allowed_origins adds one."
            await _turn_away(scope, receive, answer, "origin", sentence)
            return
        peer = scope["client"][0] if scope.get("client") else ""
        scope[LOCAL_KEY] = self.listens_on_loopback and not forwarded and is_loopback(peer) and is_loopback(name)
        await self._pass(scope, receive, answer)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] in ("http.response.start", "websocket.accept")
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            log.exception("unexpected_error", path=scope["path"])
            if started:
                raise
            await refuse(scope, receive, send, FleetError("The control plane met an error of its own; its log tells more."))


async def _turn_away(scope: Scope, receive: Receive, send: Send, header: str, sentence: str) -> None:
    scope["app"].state.fleet.metrics.turned_away(header)
    await refuse(scope, receive, send, Forbidden(sentence))


def _labelled(send: Send, request_id: bytes) -> Send:
    async def labelled(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = list(message.get("headers", ()))
            given = {name for name, _ in headers}
            headers += [pair for pair in ALWAYS if pair[0] not in given]
            headers.append((b"x-request-id", request_id))
            message = {**message, "headers": headers}
        await send(message)

    return labelled
