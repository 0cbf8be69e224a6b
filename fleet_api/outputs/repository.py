"""SQL of outputs."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select

from fleet_api.outputs.models import Output

outputs = Output.__table__  # type: ignore[attr-defined]


def add(db: Connection, output: Output) -> None:
    """Insert an output."""
    db.execute(insert(outputs).values(**output.model_dump(exclude={"seq"})))


def get(db: Connection, filename: str) -> Output | None:
    """Return one output."""
    row = db.execute(select(outputs).where(outputs.c.filename == filename)).mappings().first()
    return Output(**row) if row else None


def page(db: Connection, limit: int, offset: int) -> tuple[list[Output], int]:
    """Return a page, newest first, and the number of all."""
    rows = db.execute(select(outputs).order_by(outputs.c.seq.desc()).limit(limit).offset(offset)).mappings()
    total = db.execute(select(func.count()).select_from(outputs)).scalar_one()
    return [Output(**row) for row in rows], total


def filenames(db: Connection) -> set[str]:
    """Return every file name."""
    return set(db.execute(select(outputs.c.filename)).scalars())


def remove(db: Connection, filename: str) -> bool:
    """Delete one row; False if there was none."""
    return bool(db.execute(delete(outputs).where(outputs.c.filename == filename)).rowcount == 1)


def remove_all(db: Connection) -> list[str]:
    """Delete every row; return the file names."""
    names = list(db.execute(select(outputs.c.filename)).scalars())
    db.execute(delete(outputs))
    return names
