"""Who calls: by a key or an agent's credential in a header or a WebSocket's subprotocol, by the sign-in cookie, or from this machine.

A credential that is shown must be good, also where none is wanted: a revoked key is refused on loopback too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from starlette.requests import HTTPConnection

from fleet_api.access.callers import LOCAL, OPEN, Caller, Role
from fleet_api.access.door import LOCAL_KEY
from fleet_api.errors import Unauthorized

if TYPE_CHECKING:
    from fleet_api.lifespan import State

SUBPROTOCOL = "fleet"
SUBPROTOCOL_KEY = "fleet.key."
AGENT_PREFIX = "fleet-agent_"
NODE_KEY = "fleet.node"
WANTED_HEADERS = {"WWW-Authenticate": "Bearer"}


class Credential(NamedTuple):
    """A secret and how it came."""

    secret: str
    way: Literal["header", "cookie"]


def credential_of(connection: HTTPConnection, cookie_name: str) -> Credential | None:
    """Return what the caller shows; a header wins over the cookie. None if there is nothing."""
    cookie = False
    for name, value in connection.scope["headers"]:
        if name == b"authorization":
            scheme, _, secret = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and secret.strip():
                return Credential(secret.strip(), "header")
            raise Unauthorized("The Authorization header must read 'Bearer <key>'.")
        if name == b"x-api-key" and value:
            return Credential(value.decode("latin-1"), "header")
        if name == b"sec-websocket-protocol" and connection.scope["type"] == "websocket":
            for offered in value.decode("latin-1").split(","):
                if offered.strip().startswith(SUBPROTOCOL_KEY):
                    return Credential(offered.strip().removeprefix(SUBPROTOCOL_KEY), "header")
        cookie = cookie or name == b"cookie"
    if cookie and (session := connection.cookies.get(cookie_name)):
        return Credential(session, "cookie")
    return None


async def recognise(fleet: State, connection: HTTPConnection, credential: Credential | None) -> Caller | None:
    """Return who calls; None where nothing was shown and nothing is known. Raises Unauthorized for a bad credential."""
    address = connection.client.host if connection.client else ""
    if credential is None:
        if fleet.settings.auth == "off":
            return OPEN
        return LOCAL if connection.scope.get(LOCAL_KEY) and fleet.settings.auth == "on" else None
    if credential.way == "cookie":
        return await fleet.keys.caller_with_session(credential.secret, address)
    if credential.secret.startswith(AGENT_PREFIX):
        node = fleet.nodes.authenticate(credential.secret)
        connection.scope[NODE_KEY] = node
        return Caller("agent", node.id, node.id, Role.ANYONE)
    return await fleet.keys.caller_with_key(credential.secret, address)
