"""The writer thread: isolation, durability, errors as sentences."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from fleet_api.kit import db as module
from fleet_api.kit.db import Database, DatabaseUnusable


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "test.db")
    await database.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT)")))
    yield database
    await database.close()


def insert(number: int) -> object:
    return lambda c: c.execute(text("INSERT INTO t VALUES (:n, '')"), {"n": number}).rowcount


def count(c: Connection) -> int:
    return int(c.execute(text("SELECT count(*) FROM t")).scalar_one())


async def test_writes_are_seen_by_the_next_read(db: Database) -> None:
    await db.write(insert(1))
    assert await db.read(count) == 1


async def test_one_that_raises_undoes_itself_alone(db: Database) -> None:
    def half(c: Connection) -> None:
        c.execute(text("INSERT INTO t VALUES (100, '')"))
        raise KeyError("half way")

    results = await asyncio.gather(*(db.write(insert(n)) for n in range(20)), db.write(half), db.write(insert(200)), return_exceptions=True)
    assert isinstance(results[20], KeyError)
    assert [each for each in results if isinstance(each, BaseException)] == [results[20]]
    assert await db.read(count) == 21
    assert not await db.read(lambda c: c.execute(text("SELECT 1 FROM t WHERE n = 100")).first())


async def test_writes_that_wait_together_share_a_commit(db: Database) -> None:
    commits: list[str] = []
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(c: Connection) -> None:
        loop.call_soon_threadsafe(gate.set)
        raw = c.connection.dbapi_connection
        assert raw is not None
        raw.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
        import time

        time.sleep(0.2)

    first = asyncio.ensure_future(db.write(slow))
    await gate.wait()
    rest = [asyncio.ensure_future(db.write(insert(n))) for n in range(100)]
    await asyncio.gather(first, *rest)
    assert await db.read(count) == 100
    assert 1 <= len(commits) <= 3


async def test_a_locked_database_is_a_sentence(db: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_MS", 50)
    other = Database(tmp_path / "test.db")
    holder = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(DatabaseUnusable, match="locked by another program"):
            await other.write(insert(1))
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    await other.write(insert(2))
    assert await other.read(count) == 1
    await other.close()


async def test_a_full_disk_is_a_sentence_and_nothing_is_half_written(db: Database) -> None:
    def fill(c: Connection) -> None:
        pages = c.execute(text("PRAGMA page_count")).scalar_one()
        c.execute(text(f"PRAGMA max_page_count = {pages}"))
        c.execute(text("INSERT INTO t VALUES (1, :s)"), {"s": "x" * 1_000_000})

    with pytest.raises(DatabaseUnusable, match=r"disk .* is full"):
        await db.write(fill)
    assert await db.read(count) == 0


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "closed.db")
    await database.close()
    with pytest.raises(DatabaseUnusable, match="stopping"):
        await database.write(lambda c: None)
