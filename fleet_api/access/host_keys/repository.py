"""SQL of pinned host keys."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from fleet_api.access.host_keys.models import HostKey

host_keys = HostKey.__table__  # type: ignore[attr-defined]


def get(db: Connection, address: str, port: int) -> HostKey | None:
    """Return the keys of one server."""
    where = (host_keys.c.address == address, host_keys.c.port == port)
    row = db.execute(select(host_keys).where(*where)).mappings().first()
    return HostKey(**row) if row else None


def add(db: Connection, row: HostKey) -> None:
    """Insert the keys of a server."""
    db.execute(insert(host_keys).values(**row.model_dump()))


def change(db: Connection, address: str, port: int, **values: Any) -> None:
    """Set columns of a server's row."""
    db.execute(update(host_keys).where(host_keys.c.address == address, host_keys.c.port == port).values(**values))


def remove(db: Connection, address: str, port: int) -> None:
    """Forget a server."""
    db.execute(delete(host_keys).where(host_keys.c.address == address, host_keys.c.port == port))
