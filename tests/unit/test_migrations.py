"""The database's history leads to the tables of the code, and what does not fit is a sentence."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from fleet_api.errors import SchemaTooNew
from fleet_api.kit import db as kit_db
from fleet_api.kit.db import DatabaseUnusable, sqlite_engine
from fleet_api.migrate import FOLDER, HEAD, upgrade
from fleet_api.migrations import upgrade as migrations
from fleet_api.tables import metadata


def test_migrations_and_tables_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    assert upgrade(path) is True
    assert upgrade(path) is False, "the second time there is nothing to do"
    with sqlite_engine(path).connect() as connection:
        found = MigrationContext.configure(
            connection, opts={"include_name": lambda name, *_: not name or not name.startswith("output_words")}
        )
        assert compare_metadata(found, metadata) == [], "but for the words of outputs, a virtual table that SQLAlchemy has no word for"


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    upgrade(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"9999.*newer version"):
        upgrade(path)
    assert path.read_bytes() == before


def test_a_locked_database_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet.db"
    monkeypatch.setattr(kit_db, "BUSY_TIMEOUT_MS", 50)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode=WAL")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(DatabaseUnusable, match="locked by another program"):
            upgrade(path)
    finally:
        holder.close()
    assert upgrade(path)


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    path.write_bytes(b"these are not the pages you are looking for " * 100)
    with pytest.raises(DatabaseUnusable, match="damaged"):
        upgrade(path)


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet.db"
    real = migrations.command.upgrade

    def half(config: object, revision: str) -> None:
        real(config, revision)
        raise RuntimeError("the power went")

    monkeypatch.setattr(migrations.command, "upgrade", half)
    with pytest.raises(RuntimeError):
        upgrade(path)
    monkeypatch.undo()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
    assert upgrade(path)


def test_the_head_that_is_looked_for_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_jobs_outlive_the_step_to_callbacks_and_back(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    upgrade(path)
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    job: dict[str, object] = {"seq": 1, "id": "j", "door": "queue", "job_type": "custom", "state": "queued", "priority": 0, "front": 0}
    job |= {"payload": "{}", "max_retries": 3, "timeout_seconds": 60, "attempt": 0, "failures": 0, "losses": 0, "overtaken": 0}
    job |= {"step": 0, "steps": 0, "created_at": 1, "queued_at": 1}
    put = f"INSERT INTO jobs ({', '.join(job)}) VALUES ({', '.join('?' * len(job))})"
    engine = sqlite_engine(path)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql(put, tuple(job.values()))
        config.attributes["connection"] = connection
        command.downgrade(config, "0004")
        connection.exec_driver_sql("INSERT INTO idempotency_keys VALUES ('k', 'h', '[]', 1)")
        connection.exec_driver_sql("COMMIT")
    engine.dispose()
    assert upgrade(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT id FROM jobs").fetchall() == [("j",)]
        assert connection.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (0,)
    connection.close()
