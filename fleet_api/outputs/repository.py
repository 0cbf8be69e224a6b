"""SQL of outputs, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, update

from fleet_api.outputs.models import Output

outputs = Output.__table__  # type: ignore[attr-defined]
_SQL_VARIABLES = 500
CLAIMED = -1.0
"""In ``deleted_at``: is being destroyed."""


def add(db: Connection, output: Output) -> None:
    """Insert an output, and its prompt's words."""
    values = output.model_dump(exclude={"seq"})
    seq = db.execute(insert(outputs).values(**values | {"key": output.key or output.filename}).returning(outputs.c.seq)).scalar_one()
    db.execute(text("INSERT INTO output_words (rowid, prompt) VALUES (:seq, :prompt)"), {"seq": seq, "prompt": output.prompt})


def add_all(db: Connection, found: list[Output]) -> None:
    """Insert many outputs, at some 30,000 a second."""
    first = (db.execute(text("SELECT max(seq) FROM outputs")).scalar() or 0) + 1
    rows = [each.model_dump() | {"seq": seq, "key": each.key or each.filename} for seq, each in enumerate(found, first)]
    db.execute(insert(outputs), rows)
    db.execute(text("INSERT INTO output_words (rowid, prompt) VALUES (:seq, :prompt)"), rows)


def get(db: Connection, filename: str) -> Output | None:
    """Return one output, in the bin or not."""
    row = db.execute(select(outputs).where(outputs.c.filename == filename)).mappings().first()
    return Output(**row) if row else None


def some(db: Connection, names: list[str]) -> list[Output]:
    """Return those of these names that are there and not in the bin, in no order."""
    found: list[Output] = []
    for start in range(0, len(names), _SQL_VARIABLES):
        part = outputs.c.filename.in_(names[start : start + _SQL_VARIABLES])
        found += [Output(**row) for row in db.execute(select(outputs).where(part, outputs.c.deleted_at.is_(None))).mappings()]
    return found


def keys(db: Connection) -> set[str]:
    """Return every key."""
    return set(db.execute(select(outputs.c.key)).scalars())


def change(db: Connection, filename: str, in_bin: bool, **values: Any) -> bool:
    """Change one row that is, or is not, in the bin; False if there was none."""
    place = outputs.c.deleted_at > 0 if in_bin else outputs.c.deleted_at.is_(None)
    return bool(db.execute(update(outputs).where(outputs.c.filename == filename, place).values(**values)).rowcount == 1)


def bin_all(db: Connection, now: float) -> int:
    """Put every output into the bin; return how many that were."""
    return int(db.execute(update(outputs).where(outputs.c.deleted_at.is_(None)).values(deleted_at=now)).rowcount)


def binned(db: Connection, before: float, limit: int) -> list[Output]:
    """Return outputs that were put into the bin before ``before``."""
    rows = db.execute(select(outputs).where(outputs.c.deleted_at <= before).order_by(outputs.c.seq).limit(limit)).mappings()
    return [Output(**row) for row in rows]


def claim(db: Connection, output: Output) -> bool:
    """Note that what is in the bin is being destroyed, and cannot be had back; False if it is not in the bin any more."""
    this = outputs.c.seq == output.seq, outputs.c.filename == output.filename, outputs.c.deleted_at.is_not(None)
    return bool(db.execute(update(outputs).where(*this).values(deleted_at=CLAIMED)).rowcount == 1)


def remove(db: Connection, found: Iterable[Output]) -> None:
    """Delete rows and their words. A number may be another output's by now, so the name has to fit too."""
    for each in found:
        this = outputs.c.seq == each.seq, outputs.c.filename == each.filename
        if db.execute(delete(outputs).where(*this)).rowcount:
            db.execute(text("DELETE FROM output_words WHERE rowid = :seq"), {"seq": each.seq})


def renew(db: Connection, output: Output) -> None:
    """Note what a file is now that another program has written it anew."""
    fresh = output.model_dump(include={"bytes", "sha256", "width", "height", "prompt", "model", "seed", "created_at", "parameters"})
    db.execute(update(outputs).where(outputs.c.key == output.key).values(**fresh, synced_at=None))
    db.execute(
        text("UPDATE output_words SET prompt = :prompt WHERE rowid = (SELECT seq FROM outputs WHERE key = :key)"),
        {"prompt": output.prompt, "key": output.key},
    )
