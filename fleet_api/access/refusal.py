"""A refusal before any route's code runs, over HTTP or on a WebSocket that is not accepted."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from fleet_api.errors import FleetError

POLICY_VIOLATION = 1008


async def refuse(scope: Scope, receive: Receive, send: Send, error: FleetError) -> None:
    """Answer with the error's status and sentence; a WebSocket's handshake is answered the same way where the server can."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": error.detail[:120]})
        return
    await JSONResponse({"detail": error.detail}, error.status, headers=error.headers)(scope, receive, send)
