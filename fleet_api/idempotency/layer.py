"""Stands before each row that creates. Without an ``Idempotency-Key`` it costs one look at the headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_api.access.callers import caller_of
from fleet_api.access.policy import SHOWN_ONCE, STREAMED
from fleet_api.access.refusal import refuse
from fleet_api.errors import FleetError
from fleet_api.idempotency.keys import RequestKey, checked
from fleet_api.idempotency.service import Said

if TYPE_CHECKING:
    from fleet_api.lifespan import State

ONCE_KEY = "fleet.once"
NAME = b"idempotency-key"
REPLAYED = (b"idempotent-replayed", b"true")


class Once:
    """ASGI: one row's own application; a repeat under a key gets the first answer again."""

    def __init__(self, app: ASGIApp, row: str) -> None:
        self.app = app
        self.row = row

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        values = [value for name, value in scope["headers"] if name == NAME]
        if not values:
            await self.app(scope, receive, send)
            return
        fleet: State = scope["app"].state.fleet
        try:
            key = checked(values)
            body = await _whole(receive)
            if body is None:
                return
            caller = caller_of(HTTPConnection(scope))
            whose = f"{caller.kind}:{caller.id}" if caller is not None else ""
            once = fleet.repeats.key_of(whose, self.row, key, scope["path"], scope["query_string"], body)
            with fleet.repeats.alone(once):
                said = await fleet.repeats.earlier(once)
                if said is not None:
                    await _say(send, said)
                    return
                scope[ONCE_KEY] = once
                again = _again(body, receive)
                if self.row in STREAMED:
                    await self._stream(fleet, once, scope, again, send)
                else:
                    await self._hold(fleet, once, scope, again, send)
        except FleetError as error:
            await refuse(scope, receive, send, error)

    async def _hold(self, fleet: State, once: RequestKey, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the row answer; what it said is noted before the caller hears it."""
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await self.app(scope, receive, hold)
        status = held[0]["status"] if held else 500
        if 200 <= status < 300:
            body = b"".join(message.get("body", b"") for message in held[1:])
            await fleet.repeats.answered(once, Said(status, body.decode()), keep=self.row not in SHOWN_ONCE)
        else:
            await fleet.repeats.failed(once)
        for message in held:
            await send(_marked(message, once))

    async def _stream(self, fleet: State, once: RequestKey, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the row answer as it goes: its answer is a file that it can give again."""
        status = 500

        async def pass_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 300:  # before the caller hears it, as the caller may try again at once
                    await fleet.repeats.failed(once)
            await send(_marked(message, once))

        await self.app(scope, receive, pass_on)


def _marked(message: Message, once: RequestKey) -> Message:
    if once.job_ids is not None and message["type"] == "http.response.start" and message["status"] < 300:
        return {**message, "headers": [*message.get("headers", ()), REPLAYED]}
    return message


async def _say(send: Send, said: Said) -> None:
    body = said.body.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), REPLAYED]
    await send({"type": "http.response.start", "status": said.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _whole(receive: Receive) -> bytes | None:
    """Return a request's body; None if its sender hung up. Raises TooLarge."""
    found = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        found += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(found)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once more, and then whatever else comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
