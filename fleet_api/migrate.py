"""Brings the database to this version's schema, in one transaction."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

HEAD = "0008"
"""The newest migration. Kept here so that a start with nothing to do costs one query, and not the import of Alembic (0.4 s)."""

FOLDER = Path(__file__).parent / "migrations"


def upgrade(database: Path) -> bool:
    """Create or upgrade the database; return whether anything changed.

    Raises:
        SchemaTooNew: a newer version wrote it; nothing is changed.
        DatabaseUnusable: locked, full, damaged or not writable.
    """
    if database.exists() and _revision(database) == HEAD:
        return False
    from fleet_api.migrations.upgrade import run

    with contextlib.suppress(OSError):  # the database itself says what is wrong
        database.touch(mode=0o600)  # SQLite's other files take after it
    return run(database, FOLDER)


def _revision(database: Path) -> str | None:
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1)
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
