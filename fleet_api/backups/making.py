"""Makes, lists, verifies and removes backups. Blocking: callers of the event loop go through a thread.

Guarantees: the database in a backup is one commit of it, copied while it is written to; a backup is listed once every byte of it was
read back; a run that is killed, or finds the disk full, leaves no backup, and its parts go with the next run; one run at a time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet_api.backups import archive, targets, unfinished
from fleet_api.backups.manifest import ARCHIVE, DATABASE, NOTE, PART, BackupFailed, Manifest, Noted, check_id, new_id
from fleet_api.backups.sources import choose
from fleet_api.backups.targets import FolderTarget, Target
from fleet_api.errors import Conflict, FleetError, InvalidValue
from fleet_api.version import __version__

LOCK = "backup.lock"
STAGING = ".backup"
MOST_LEFT_OUT = 100
"""So many of what was left out a backup names."""

Tell = Callable[[str, float], None]
"""Called with a step and how far it is in percent."""


def quiet(_text: str, _progress: float) -> None:
    """Tell nobody."""


class Backups:
    """The backups of one data folder at one target."""

    def __init__(self, home: Path, target: Target, keep: int) -> None:
        self.home = home
        self.target = target
        self._keep = keep

    def create(
        self, now: float, outputs: bool = False, keys: bool = False, tell: Tell = quiet, going: archive.Going = lambda: None
    ) -> Manifest:
        """Make a backup, verify it, and remove the oldest beyond what is kept.

        Raises:
            Conflict: another one is at work.
            InvalidValue: keys were asked for, and the target is not a folder of this machine.
            BackupFailed: the disk is full, or the database cannot be copied.
        """
        if keys and not isinstance(self.target, FolderTarget):
            raise InvalidValue(
                "Keys go to a folder of this machine alone, as they lie open in a backup; copy vault/ and tls/ by hand instead."
            )
        with working(self.home), readable(f"The backup could not be written to {self.target.name}"):
            staging = self.home / STAGING
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(mode=0o700)
            part: Path | None = None
            try:
                tell("copy the database", 5)
                revision = copy_database(self.home / DATABASE, staging / DATABASE, going)
                workspace = self.target.workspace(staging)
                self._remove_cut_off()
                manifest = Manifest(id=new_id(now), version=__version__, revision=revision, created_at=now, outputs=outputs, keys=keys)
                part = workspace / f".{manifest.id}{ARCHIVE}{PART}"
                tell("write the archive", 20)
                chosen = choose(self.home, staging / DATABASE, outputs, keys)
                manifest.left_out = _few(chosen.left)
                made = archive.write(part, manifest, chosen.sources, going)
                unfinished.begin(self.home, made.id)
                self.target.put(part, made.id + ARCHIVE, made.sha256, going)
                tell("verify it", 60)
                try:
                    self._read(made.noted(), going)
                    going()
                    targets.put_note(self.target, workspace, made.noted())
                    going()
                    unfinished.end(self.home, made.id)
                except BaseException:
                    with suppress(FleetError, OSError):  # what stays has no note, and goes with the next run
                        self.target.remove(made.id + NOTE)
                        self.target.remove(made.id + ARCHIVE)
                    raise
            finally:
                if part is not None:
                    part.unlink(missing_ok=True)
                shutil.rmtree(staging, ignore_errors=True)
            tell("remove the oldest", 95)
            self._prune()
            return made

    def all(self) -> list[Noted]:
        """Return every backup, newest first. Raises BackupFailed."""
        with readable(f"The backups in {self.target.name} cannot be read"):
            return targets.listed(self.target)

    def verify(self, backup_id: str, going: archive.Going = lambda: None) -> Manifest:
        """Read every byte of a backup and check it. Raises NotFound, BackupDamaged, BackupFailed."""
        with readable(f"The backup {backup_id} cannot be read"):
            return self._read(targets.note(self.target, check_id(backup_id)), going)

    def _read(self, noted: Noted, going: archive.Going, folder: Path | None = None) -> Manifest:
        with self.target.open(noted.id + ARCHIVE) as chunks:
            return archive.read(chunks, noted, noted.id, going, folder)

    def unpack(self, backup_id: str, folder: Path, going: archive.Going = lambda: None) -> Manifest:
        """Verify a backup, and unpack it into a folder. Raises as :meth:`verify`."""
        with readable(f"The backup {backup_id} could not be unpacked into {folder}"):
            return self._read(targets.note(self.target, check_id(backup_id)), going, folder)

    def _prune(self) -> None:
        found = targets.listed(self.target)
        for old in found[self._keep :]:
            unfinished.begin(self.home, old.id)
            self.target.remove(old.id + NOTE)  # first: without it there is no backup
            self.target.remove(old.id + ARCHIVE)
            unfinished.end(self.home, old.id)

    def _remove_cut_off(self) -> None:
        """Remove what earlier runs of this data folder were killed over."""
        begun = unfinished.read(self.home)
        targets.remove_unlisted(self.target, begun)
        for each in begun:
            unfinished.end(self.home, each)


def copy_database(source: Path, copy: Path, going: archive.Going) -> str:
    """Copy a database while it is in use, look whether the copy is whole, and return its schema's revision. Raises BackupFailed."""
    if not source.is_file():
        raise BackupFailed(f"There is no database {source}; is this the data folder?")
    try:
        old = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
        new = sqlite3.connect(copy)
        try:
            old.backup(new, pages=-1)  # at once: one commit, and nobody who writes meanwhile starts it anew
            going()
            new.execute("PRAGMA journal_mode=DELETE")
            return revision_of(new, source)
        finally:
            new.close()
            old.close()
    except sqlite3.Error as error:
        raise BackupFailed(f"The database {source} cannot be copied: {_meaning(error)}.") from None


def revision_of(database: sqlite3.Connection, name: Path) -> str:
    """Return the revision of a database that is whole. Raises BackupFailed, sqlite3.Error."""
    said = database.execute("PRAGMA quick_check(1)").fetchone()
    if said is None or said[0] != "ok":
        raise BackupFailed(f"The database {name} is damaged ({said[0] if said else 'it says nothing'}); restore an earlier backup.")
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise BackupFailed(f"The database {name} has no schema.")
    return str(row[0])


@contextmanager
def working(home: Path) -> Iterator[None]:
    """Be the only one who makes or restores a backup of a data folder. Raises Conflict."""
    try:
        file = os.fdopen(os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise BackupFailed(f"The data folder {home} cannot be used: {error.strerror}.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("A backup is made or restored already; wait for its end, and try again.") from None
        yield


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn an OSError into a sentence with a status."""
    try:
        yield
    except FleetError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BackupFailed(f"{what}: the disk is full. Free some space and try again.") from None
        raise BackupFailed(f"{what}: {error.strerror or error}.") from None


def _few(left: list[str]) -> list[str]:
    return left[:MOST_LEFT_OUT] + ([f"and {len(left) - MOST_LEFT_OUT} more"] if len(left) > MOST_LEFT_OUT else [])


def _meaning(error: sqlite3.Error) -> str:
    text = str(error)
    return "the disk is full" if "full" in text or "I/O" in text else text
