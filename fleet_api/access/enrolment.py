"""Enrolment: a single-use token becomes a node and a credential that only its agent holds."""

from __future__ import annotations

from sqlalchemy import Connection

from fleet_api.access import repository
from fleet_api.errors import Unauthorized
from fleet_api.kit.clock import Clock
from fleet_api.kit.crypto import fingerprint, new_secret
from fleet_api.kit.db import Database
from fleet_api.nodes.service import NodeService
from gpu_inference.protocol import PROTOCOL_VERSION, EnrolReply, EnrolRequest

TOKEN_LIFETIME = 3600.0


async def create_token(db: Database, clock: Clock) -> str:
    """Make a token that is good for one enrolment within the hour."""
    token = new_secret("fleet-enrol")
    now = clock.now()

    def store(connection: Connection) -> None:
        repository.add_token(connection, fingerprint(token), now, now + TOKEN_LIFETIME)

    await db.write(store)
    return token


class Enrolment:
    """Lets agents in."""

    def __init__(self, db: Database, clock: Clock, nodes: NodeService) -> None:
        self._db = db
        self._clock = clock
        self._nodes = nodes

    async def enrol(self, request: EnrolRequest, ip: str) -> EnrolReply:
        """Spend the token and register the node. Raises Unauthorized; nothing is stored then."""
        if request.protocol != PROTOCOL_VERSION:
            raise Unauthorized(f"protocol: {request.protocol} is not spoken here; this control plane speaks {PROTOCOL_VERSION}.")
        credential = new_secret("fleet-agent")
        now = self._clock.now()

        def store(connection: Connection) -> str:
            node_id = self._nodes.register(connection, request.hostname, request.machine_id, ip, fingerprint(credential), now)
            if not repository.use_token(connection, fingerprint(request.token), node_id, request.request_id, now):
                raise Unauthorized("The enrolment token is unknown, used or expired; make a new one.")
            return node_id

        node_id = await self._db.write(store)
        await self._nodes.reload(node_id)
        return EnrolReply(node_id=node_id, credential=credential)
