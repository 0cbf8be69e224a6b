from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from ansible_collections.fleet.commander.plugins.modules import fleet_database_copy


def test_a_copy_is_of_one_moment_while_the_database_is_in_use(tmp_path: Path) -> None:
    source, copy = tmp_path / "fleet.db", tmp_path / "backups" / "fleet-before-1.db"
    writer = sqlite3.connect(source)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE kept (number INTEGER)")
    writer.execute("INSERT INTO kept VALUES (1)")
    writer.commit()
    writer.execute("INSERT INTO kept VALUES (2)")  # not yet committed
    fleet_database_copy.make(str(source), str(copy))
    writer.commit()
    writer.close()
    with sqlite3.connect(copy) as copied:
        assert copied.execute("SELECT number FROM kept").fetchall() == [(1,)]
    copied.close()
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_the_oldest_copies_go(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"fleet-before-{number}.db"
        path.touch()
        os.utime(path, (number, number))
    (tmp_path / "mine.db").touch()
    fleet_database_copy.prune(str(tmp_path), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fleet-before-3.db", "fleet-before-4.db", "mine.db"]
