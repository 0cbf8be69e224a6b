"""SQL of the model store."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from fleet_api.models.models import StoredModel

stored = StoredModel.__table__  # type: ignore[attr-defined]


def every(db: Connection) -> list[StoredModel]:
    """Return every model and LoRA of the store, by name."""
    rows = db.execute(select(stored).order_by(stored.c.type, stored.c.name)).mappings()
    return [StoredModel(**row) for row in rows]


def put(db: Connection, model: StoredModel) -> None:
    """Insert a row, or replace the one of this name."""
    remove(db, model.type, model.name)
    db.execute(insert(stored).values(**model.model_dump()))


def remove(db: Connection, kind: str, name: str) -> None:
    """Delete one row."""
    db.execute(delete(stored).where(stored.c.type == kind, stored.c.name == name))
