"""Pages of outputs, newest first, by cursor, filtered. With 200,000 rows a page takes 5 ms, its total up to 25 (``make bench``).

Columns are written out and joined by hand, as the order of the join matters: the words first, then the rows of those that match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Float, Select, String, func, literal_column, select, text

from fleet_api.outputs.models import Output
from fleet_api.outputs.repository import outputs

_MOST_WORDS = 16
_PLAIN, _MATCHING = "outputs", "output_words CROSS JOIN outputs ON outputs.seq = output_words.rowid"
_created_at = literal_column("outputs.created_at", Float)
_created_at_unindexed = literal_column("+outputs.created_at", Float)
_seq: ColumnElement[int] = literal_column("outputs.seq")
_word_seq: ColumnElement[int] = literal_column("output_words.rowid")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which outputs. Empty and None match all; ``q`` are words of the prompt, each the beginning of one; times in epoch seconds."""

    q: str = ""
    model: str = ""
    lora: str = ""
    node_id: str = ""
    since: float | None = None
    until: float | None = None
    starred: bool = False
    deleted: bool = False
    local: bool | None = None
    synced: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """``cursor`` is the place from which the next page is read, None where there is none."""

    outputs: list[Output]
    total: int
    cursor: int | None


def page(db: Connection, wanted: Wanted, limit: int, offset: int = 0, cursor: int | None = None) -> Page:
    """Return ``limit`` outputs older than ``cursor``, or after the newest ``offset``, and the number of all that are wanted."""
    words = match(wanted.q)
    if wanted.q and not words:
        return Page([], 0, None)
    dates = _dates(wanted, _created_at)
    by = _word_seq if words else _seq
    seqs = _of(select(_seq), words).where(*_rules(wanted))
    if dates:
        low, high = db.execute(select(func.min(_seq), func.max(_seq)).select_from(text(_PLAIN)).where(*dates)).one()
        seqs = seqs.where(by.between(low or 0, high or 0), *_dates(wanted, _created_at_unindexed))
    seqs = seqs.where(by < cursor) if cursor is not None else seqs.offset(offset)
    given = {"words": words} if words else {}
    found: list[int] = [row[0] for row in db.execute(seqs.order_by(by.desc()).limit(limit + 1), given)]
    rows = db.execute(select(outputs).where(outputs.c.seq.in_(found[:limit])).order_by(outputs.c.seq.desc())).mappings()
    return Page([Output(**row) for row in rows], _total(db, wanted, words), found[limit - 1] if len(found) > limit else None)


def match(q: str) -> str:
    """Return words as FTS5 takes them: each quoted, each the beginning of a word, all of them wanted."""
    return " ".join(f'"{word}"*' for word in re.findall(r"\w+", q)[:_MOST_WORDS])


def _of(what: Select[int], words: str) -> Select[int]:
    if not words:
        return what.select_from(text(_PLAIN))
    return what.select_from(text(_MATCHING)).where(text("output_words MATCH :words"))


def _total(db: Connection, wanted: Wanted, words: str) -> int:
    """Count what is wanted. Of words alone the index of words tells it (1 ms), less what is in the bin, which is little."""
    dates = _dates(wanted, _created_at)
    rules = _rules(wanted, by_time=bool(dates))  # whose index has the bin's column too
    if not words:
        return int(db.execute(select(func.count()).select_from(text(_PLAIN)).where(*rules, *dates)).scalar_one())
    given = {"words": words}
    matching = text("+outputs.seq IN (SELECT rowid FROM output_words WHERE output_words MATCH :words)")
    counting = select(func.count()).select_from(text(_PLAIN)).where(matching)
    if len(rules) > 1 or dates or wanted.deleted:
        return int(db.execute(counting.where(*rules, *dates), given).scalar_one())
    all_of_them = db.execute(text("SELECT count(*) FROM output_words WHERE output_words MATCH :words"), given).scalar_one()
    return int(all_of_them) - int(db.execute(counting.where(text("outputs.deleted_at IS NOT NULL")), given).scalar_one())


def _rules(wanted: Wanted, by_time: bool = False) -> list[ColumnElement[bool]]:
    rules: list[ColumnElement[bool]] = [
        literal_column(f"{'+' if by_time else ''}outputs.deleted_at IS {'NOT ' if wanted.deleted else ''}NULL")
    ]
    for name in ("model", "lora", "node_id"):
        if value := getattr(wanted, name):
            rules.append(literal_column(f"outputs.{name}", String) == value)
    if wanted.starred:
        rules.append(literal_column("outputs.starred = 1"))
    if wanted.local is not None:
        rules.append(literal_column(f"outputs.local = {int(wanted.local)}"))
    if wanted.synced is not None:
        rules.append(literal_column(f"outputs.synced_at IS {'NOT ' if wanted.synced else ''}NULL"))
    return rules


def _dates(wanted: Wanted, column: ColumnElement[float]) -> list[ColumnElement[bool]]:
    """Return the bounds of a time. Pages go by ``seq``, so these are turned into bounds of it, and tested without their index."""
    bounds: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        bounds.append(column >= wanted.since)
    if wanted.until is not None:
        bounds.append(column < wanted.until)
    return bounds
