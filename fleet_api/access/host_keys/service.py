"""SSH host keys: pinned at first contact, refused when they change, accepted anew by an admin who names the fingerprint."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection

from fleet_api.access.host_keys import repository
from fleet_api.access.host_keys.models import HostKey
from fleet_api.errors import Conflict
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database

log = structlog.get_logger()


class HostKeys:
    """Keeps the pins. One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def get(self, address: str, port: int) -> HostKey | None:
        """Return what is known of a server; None before the first contact."""
        return await self._db.read(lambda db: repository.get(db, address, port))

    async def pinned(self, address: str, port: int) -> list[str]:
        """Return the keys of a server; none before the first contact."""
        row = await self.get(address, port)
        return list(row.keys) if row else []

    async def pin(self, address: str, port: int, key: str, fingerprint: str) -> bool:
        """Keep the key of a first contact. Say whether it is among those that are pinned now."""
        row = HostKey(
            address=address, port=port, keys=[key], fingerprint=fingerprint, pinned_at=self._clock.now(), pinned_by="first contact"
        )

        def store(db: Connection) -> bool:
            known = repository.get(db, address, port)
            if known is None:
                repository.add(db, row)
                return True
            return key in known.keys

        return await self._db.write(store)

    async def changed(self, address: str, port: int, key: str, fingerprint: str) -> str:
        """Note a key that was refused, and return the fingerprint of the one that is pinned."""
        now = self._clock.now()

        def store(db: Connection) -> str:
            known = repository.get(db, address, port)
            if known is None:
                return "none"
            repository.change(db, address, port, changed_keys=[key], changed_fingerprint=fingerprint, changed_at=now)
            return known.fingerprint

        pinned = await self._db.write(store)
        log.warning("host_key_changed", address=address, port=port, pinned=pinned, shown=fingerprint)
        return pinned

    async def accept(self, address: str, port: int, fingerprint: str, by: str) -> HostKey:
        """Pin the key that was refused last. Raises Conflict unless it has this fingerprint; one that is pinned already is no error."""
        now = self._clock.now()

        def store(db: Connection) -> HostKey:
            row = repository.get(db, address, port)
            if row is None:
                raise Conflict(f"No host key of {address} port {port} is known yet; its key is pinned at the first connection.")
            if row.fingerprint == fingerprint and row.changed_fingerprint is None:
                return row
            if row.changed_fingerprint != fingerprint:
                shown = row.changed_fingerprint or row.fingerprint
                raise Conflict(
                    f"{address} port {port} showed the host key {shown} last, not {fingerprint}; look at the machine, then name that."
                )
            values = {
                "keys": row.changed_keys, "fingerprint": fingerprint, "pinned_at": now, "pinned_by": by,
                "changed_keys": [], "changed_fingerprint": None, "changed_at": None,
            }  # fmt: skip
            repository.change(db, address, port, **values)
            return HostKey(**{**row.model_dump(), **values})

        return await self._db.write(store)

    async def forget(self, address: str, port: int) -> None:
        """Forget a server, as when its node is retired; the next contact is the first."""
        await self._db.write(lambda db: repository.remove(db, address, port))
