"""Plain ASGI middleware: trailing slashes, HEAD, and a limit on request bodies, in one pass over the headers."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_api.errors import TooLarge

DROPPED = 64 * 1024 * 1024
"""So much of a refused body is let come and dropped by the server: most clients read no answer before they have sent it all."""


class Normalise:
    """Serves ``/path/`` as ``/path`` without a redirect, and HEAD as GET without the body; answers 413 to a body over ``limit`` bytes.

    Uploads have limits of their own, by the beginning of their path. A body of announced length costs one look at the headers; only one
    without is counted as it comes.
    """

    def __init__(self, app: ASGIApp, limit: int, upload_limits: Mapping[str, int]) -> None:
        self.app = app
        self.limit = limit
        self.upload_limits = dict(upload_limits)
        self._prefixes = tuple(upload_limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if len(path) > 1 and path.endswith("/"):
            scope["path"] = path.rstrip("/") or "/"
        if scope["type"] == "http":
            limit = self.limit
            if path.startswith(self._prefixes):
                limit = next(found for prefix, found in self.upload_limits.items() if path.startswith(prefix))
            for name, value in scope["headers"]:
                if name == b"content-length" and value.isdigit() and int(value) > limit:
                    await _refuse(send, limit, close=int(value) > DROPPED)
                    return
                if name == b"transfer-encoding":
                    receive = _counted(receive, limit)
            if scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}
                send = _headless(send)
        await self.app(scope, receive, send)


def _headless(send: Send) -> Send:
    async def headless(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return headless


def _counted(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge(_sentence(limit))
        return message

    return counted


async def _refuse(send: Send, limit: int, *, close: bool) -> None:
    body = json.dumps({"detail": _sentence(limit)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _sentence(limit: int) -> str:
    return f"The request body is larger than the {limit:,} bytes that this operation takes."
