"""Enrolment: a single-use token becomes a node and a credential that only its agent holds.

A token reads ``<secret>.<node id>.<hash>``: the node it is good for (empty: any), and the SHA-256 of the certificate authority
(empty: plain HTTP), by which an agent knows the control plane it was made for before it says anything.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from fleet_api.access import repository
from fleet_api.errors import Conflict, Unauthorized
from fleet_api.kit.clock import Clock
from fleet_api.kit.crypto import fingerprint, new_secret
from fleet_api.kit.db import Database
from fleet_api.nodes.naming import reserved
from fleet_api.nodes.service import NodeService
from gpu_inference.protocol import PROTOCOL_VERSION, EnrolReply, EnrolRequest

TOKEN_LIFETIME = 3600.0
NOT_GOOD = "The enrolment token is unknown, used or expired; make a new one."


async def create_token(db: Database, clock: Clock, node_id: str | None = None, ca_hash: str = "", lifetime: float = TOKEN_LIFETIME) -> str:
    """Make a token that is good for one enrolment within ``lifetime`` seconds."""
    token = f"{new_secret('fleet-enrol')}.{node_id or ''}.{ca_hash}"
    now = clock.now()
    await db.write(lambda connection: repository.add_token(connection, fingerprint(token), node_id, now, now + lifetime))
    return token


class Enrolment:
    """Lets agents in. ``ca_hash`` tells the certificate authority's, or an empty text where there is none."""

    def __init__(self, db: Database, clock: Clock, nodes: NodeService, ca_hash: Callable[[], str] = lambda: "") -> None:
        self._db = db
        self._clock = clock
        self._nodes = nodes
        self._ca_hash = ca_hash

    async def token(self, node_id: str | None, lifetime: float) -> str:
        """Make a token for one enrolment. Raises Conflict for a node id that is reserved."""
        if reserved(node_id):
            raise Conflict(f"node_id: {node_id!r} is a reserved word; choose another id.")
        return await create_token(self._db, self._clock, node_id, self._ca_hash(), lifetime)

    async def enrol(self, request: EnrolRequest, ip: str) -> EnrolReply:
        """Spend the token and register the node. Raises Unauthorized and Conflict; nothing is stored then."""
        if request.protocol != PROTOCOL_VERSION:
            raise Unauthorized(f"protocol: {request.protocol} is not spoken here; this control plane speaks {PROTOCOL_VERSION}.")
        credential = new_secret("fleet-agent")
        now, token = self._clock.now(), fingerprint(request.token)

        def store(connection: Connection) -> str:
            known = repository.token(connection, token)
            repeated = known is not None and bool(request.request_id) and known.used_request == request.request_id
            if known is None or known.expires_at <= now or (known.used_at is not None and not repeated):
                raise Unauthorized(NOT_GOOD)
            wanted = known.used_by if repeated else known.node_id
            node_id = self._nodes.register(connection, request.hostname, request.machine_id, ip, fingerprint(credential), now, wanted)
            if not repository.use_token(connection, token, node_id, request.request_id, now):
                raise Unauthorized(NOT_GOOD)
            return node_id

        node_id = await self._db.write(store)
        await self._nodes.reload(node_id)
        return EnrolReply(node_id=node_id, credential=credential)
