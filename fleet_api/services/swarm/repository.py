"""SQL of the swarm."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from fleet_api.services.swarm.models import Swarm

swarms = Swarm.__table__  # type: ignore[attr-defined]


def get(db: Connection) -> Swarm | None:
    """Return the swarm."""
    row = db.execute(select(swarms)).mappings().first()
    return Swarm(**row) if row else None


def keep(db: Connection, swarm: Swarm | None) -> None:
    """Remember this swarm and no other; None forgets it."""
    db.execute(delete(swarms))
    if swarm is not None:
        db.execute(insert(swarms).values(**swarm.model_dump()))
