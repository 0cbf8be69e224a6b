"""The database: one writer thread, many readers, no session that outlives a function.

Guarantees:

* ``write(fn)`` returns after the commit that holds ``fn``'s changes reached the disk (``synchronous=FULL``).
* Writes that wait together share one transaction and one fsync; each ``fn`` has a savepoint of its own, so that
  one that raises undoes only itself.
* ``fn`` is synchronous, gets a Core connection and returns plain objects. It must not commit, nor do other I/O.
* ``read(fn)`` sees one commit, the last, through all of its queries, in a thread of its own, and never waits for the writer (WAL).
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from fleet_api.errors import Unavailable

T = TypeVar("T")

BATCH = 256  # writes that may share one fsync; at 256 the commit is under 2 % of the batch's time
READERS = 4
BUSY_TIMEOUT_MS = 5_000


class DatabaseUnusable(Unavailable):
    """The database is locked by another program, its disk is full, or its file is damaged."""


@dataclass(slots=True)
class _Call:
    fn: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


def sqlite_engine(path: Path) -> Engine:
    """Return an engine on an SQLite file, in WAL mode, with transactions begun by hand."""
    engine = create_engine(
        f"sqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        pool_size=READERS + 2,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def translated(error: BaseException) -> BaseException:
    """Turn a driver's error that is nobody's mistake in the code into a sentence with a status."""
    if isinstance(error, OperationalError | DatabaseError):
        text = str(error.orig).lower()
    elif isinstance(error, sqlite3.Error):
        text = str(error).lower()
    else:
        return error
    if "full" in text or "i/o error" in text:
        return DatabaseUnusable("The disk that holds the database is full; free some space and try again.")
    if "locked" in text or "busy" in text:
        return DatabaseUnusable("The database is locked by another program; close it and try again.")
    if "readonly" in text or "unable to open" in text:
        return DatabaseUnusable("The database file cannot be written; check the permissions of FLEET_HOME.")
    if "malformed" in text or "not a database" in text:
        return DatabaseUnusable("The database file is damaged; restore it from a backup.")
    return error


class Database:
    """See the module's docstring. ``close`` waits for the writes already asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = sqlite_engine(path)
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-read")
        self._writer = threading.Thread(target=self._write_loop, name="db-write", daemon=True)
        self._closed = False
        self._inode = os.stat(path).st_ino if path.exists() else 0
        self._writer.start()

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` on a reader's connection. Raises :class:`DatabaseUnusable` or what ``fn`` raises."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, fn)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` in the writer's transaction and return its result once that is on disk."""
        if self._closed:
            raise DatabaseUnusable("The control plane is stopping; try again in a moment.")
        loop = asyncio.get_running_loop()
        call = _Call(fn, loop, loop.create_future())
        self._queue.put(call)
        result: T = await asyncio.shield(call.future)
        return result

    async def prove(self) -> None:
        """Write to the disk. Raises DatabaseUnusable where that cannot be done, or the file is no longer the one that was opened."""

        def write(connection: Connection) -> int:
            number = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            connection.exec_driver_sql(f"PRAGMA user_version = {(number + 1) % 2**31}")
            return os.stat(self.path).st_ino

        try:
            inode = await self.write(write)
        except OSError:
            raise DatabaseUnusable("The database file is gone; restore it from a backup, and start again.") from None
        if inode != self._inode:
            raise DatabaseUnusable("The database file was replaced while it was in use; start the control plane again.")

    async def close(self) -> None:
        """Finish the writes asked for so far, then end the threads."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown()
        self.engine.dispose()

    def _read(self, fn: Callable[[Connection], T]) -> T:
        try:
            with self.engine.connect() as connection:
                raw = connection.connection.cursor()
                raw.execute("BEGIN")
                try:
                    return fn(connection)
                finally:
                    raw.execute("COMMIT")
        except (OperationalError, DatabaseError, sqlite3.Error) as error:
            raise translated(error) from error

    def _write_loop(self) -> None:
        connection: Connection | None = None
        while (call := self._queue.get()) is not None:
            batch = [call]
            stop = False
            while len(batch) < BATCH:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    stop = True
                    break
                batch.append(following)
            try:
                connection = connection or self.engine.connect()
                _run_batch(connection, batch)
            except BaseException as error:  # whatever it was, nobody may wait for ever
                for each in batch:
                    each.error = each.error or translated(error)
                if connection is not None and connection.invalidated:
                    connection = None
            _answer(batch)
            if stop:
                break
        if connection is not None:
            connection.close()


def _run_batch(connection: Connection, batch: list[_Call]) -> None:
    raw = connection.connection.cursor()  # the driver's own: these statements are ten times cheaper than through Core
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        for call in batch:
            raw.execute("SAVEPOINT call")
            try:
                call.result = call.fn(connection)
            except BaseException as error:
                call.error = translated(error)
                if not _in_transaction(connection):  # a full disk: SQLite undid all of it
                    raise call.error from error
                raw.execute("ROLLBACK TO call")
            raw.execute("RELEASE call")
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if _in_transaction(connection):
            connection.exec_driver_sql("ROLLBACK")
        raise


def _in_transaction(connection: Connection) -> bool:
    driver = connection.connection.dbapi_connection
    return driver is not None and bool(driver.in_transaction)


def _answer(batch: list[_Call]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
    for call in batch:
        by_loop.setdefault(call.loop, []).append(call)
    for loop, calls in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, calls)


def _resolve(calls: list[_Call]) -> None:
    for call in calls:
        if call.future.done():
            continue
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.result)
