"""Lets the agent that ``fleet up`` starts on this machine in."""

from __future__ import annotations

import json
import os
import platform

from fleet_api.access.enrolment import create_token
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.crypto import fingerprint
from fleet_api.kit.db import Database
from fleet_api.nodes import repository
from fleet_api.settings import Settings


async def prepare(settings: Settings) -> None:
    """Leave a fresh enrolment token for the local agent, unless the identity it has is still good."""
    folder = settings.agent_home
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    db = Database(settings.database)
    try:
        try:
            identity = json.loads((folder / "identity.json").read_text())
            node = await db.read(lambda connection: repository.get(connection, identity["node_id"]))
            if node is not None and node.credential_hash == fingerprint(identity["credential"]):
                return
        except (OSError, ValueError, KeyError, TypeError):
            pass
        (folder / "identity.json").unlink(missing_ok=True)
        here = await db.read(lambda connection: repository.of_host(connection, platform.node()))
        token = await create_token(db, SystemClock(), here[0].id if len(here) == 1 else None)
        handle = os.open(folder / "token", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token)
    finally:
        await db.close()
