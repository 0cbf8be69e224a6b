"""Where backups are kept: a folder, or a prefix of a bucket. What the target lists is the truth.

A backup is two objects: the archive, and a note beside it, written last. An archive without its note is none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import ValidationError

from fleet_api.adapters.object_store.types import ObjectDiffers, ObjectMissing, ObjectStore
from fleet_api.backups.archive import Going, chunks_of
from fleet_api.backups.aside import aside
from fleet_api.backups.manifest import ARCHIVE, ID, NOTE, PART, BackupDamaged, Noted, damaged
from fleet_api.errors import InvalidValue, NotFound
from fleet_api.kit.durable import sync_folder
from fleet_api.storage.buckets import is_fleets

log = structlog.get_logger()

LOOK_SECONDS = 0.2
LARGEST_NOTE = 64 * 1024 * 1024


class Target(Protocol):
    """One place of backups. Blocking. Methods raise OSError, or as an object store does."""

    name: str

    def workspace(self, home: Path) -> Path:
        """Return the folder in which an archive is written before it is put here."""
        ...

    def put(self, source: Path, name: str, sha256: str, going: Going = lambda: None) -> None:
        """Move a file here under a name, whole or not at all. Where ``going`` raises, nobody waits for what is still on its way."""
        ...

    def open(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """Read an object. Raises NotFound."""
        ...

    def names(self) -> list[str]:
        """Return the names of all objects."""
        ...

    def remove(self, name: str) -> None:
        """Delete an object; nothing happens if it is not there."""
        ...


class FolderTarget:
    """A folder of this machine, or a mounted one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def workspace(self, home: Path) -> Path:
        """See :class:`Target`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self.folder.glob(f".fleet-*{PART}"):  # of a run that was killed; the lock says that none is at work
            left.unlink(missing_ok=True)
        return self.folder

    def put(self, source: Path, name: str, sha256: str, going: Going = lambda: None) -> None:
        """See :class:`Target`."""
        source.replace(self.folder / name)
        sync_folder(self.folder)

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """See :class:`Target`."""
        try:
            file = (self.folder / name).open("rb")
        except FileNotFoundError:
            raise NotFound(f"There is no {name} in {self.name}.") from None
        with file:
            yield chunks_of(file)

    def names(self) -> list[str]:
        """See :class:`Target`."""
        return sorted(each.name for each in self.folder.iterdir() if each.is_file()) if self.folder.is_dir() else []

    def remove(self, name: str) -> None:
        """See :class:`Target`."""
        (self.folder / name).unlink(missing_ok=True)


class StoreTarget:
    """A prefix of a bucket in the fleet's S3 store."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.name = f"s3://{bucket}/{self._prefix}"

    def workspace(self, home: Path) -> Path:
        """See :class:`Target`."""
        self._store.make_bucket(self._bucket)
        return home

    def put(self, source: Path, name: str, sha256: str, going: Going = lambda: None) -> None:
        """See :class:`Target`."""
        sending = aside(lambda: self._store.put(self._bucket, self._prefix + name, source, sha256))
        try:
            while not wait([sending], LOOK_SECONDS).done:
                going()
            sending.result()
        except BaseException:
            with suppress(OSError):
                os.truncate(source, 0)  # what is sent in parts is no more what it should be, and ends
            raise
        source.unlink()

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """See :class:`Target`."""
        with self._store.open(self._bucket, self._prefix + name) as chunks:
            yield chunks

    def names(self) -> list[str]:
        """See :class:`Target`."""
        if self._bucket not in self._store.buckets():
            return []
        return [each.key.removeprefix(self._prefix) for each in self._store.list(self._bucket, self._prefix)]

    def remove(self, name: str) -> None:
        """See :class:`Target`."""
        self._store.remove(self._bucket, self._prefix + name)


def split(text: str) -> tuple[str, str]:
    """Return bucket and prefix of ``s3://bucket/prefix``."""
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    return bucket, prefix


def listed(target: Target) -> list[Noted]:
    """Return every whole backup, newest first. One whose note cannot be read is left out, and stays where it is."""
    names = set(target.names())
    ids = sorted((name.removesuffix(NOTE) for name in names if name.endswith(NOTE)), reverse=True)
    found = []
    for each in ids:
        if ID.fullmatch(each) and each + ARCHIVE in names:
            try:
                found.append(note(target, each))
            except NotFound:  # removed meanwhile
                continue
            except (BackupDamaged, ObjectDiffers, OSError) as error:
                log.warning("backup_not_listed", backup=each, target=target.name, error=str(error))
    return found


def remove_unlisted(target: Target, ids: set[str]) -> list[str]:
    """Remove those of these archives that have no note, which a run that was killed left; return their names."""
    names = set(target.names()) if ids else set()
    left = sorted(each + ARCHIVE for each in ids if each + ARCHIVE in names and each + NOTE not in names)
    for name in left:
        target.remove(name)
        log.warning("unlisted_archive_removed", archive=name, target=target.name)
    return left


def note(target: Target, backup_id: str) -> Noted:
    """Return what was noted of a backup. Raises NotFound, and BackupDamaged for a note that cannot be read."""
    data = b""
    try:
        with target.open(backup_id + NOTE) as chunks:
            for chunk in chunks:
                data += chunk
                if len(data) > LARGEST_NOTE:
                    raise damaged(backup_id, "its note is too large")
    except (ObjectMissing, NotFound):
        raise NotFound(f"There is no backup {backup_id} in {target.name}; 'fleet backup list' shows them.") from None
    try:
        found = Noted.model_validate_json(data)
    except ValidationError:
        raise damaged(backup_id, "its note cannot be read") from None
    if found.id != backup_id:
        raise damaged(backup_id, "its note is of another one")
    return found


def put_note(target: Target, workspace: Path, noted: Noted) -> None:
    """Write the note: with it the backup is there."""
    part = workspace / f".{noted.id}{NOTE}{PART}"
    data = noted.model_dump_json().encode()
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    target.put(part, noted.id + NOTE, hashlib.sha256(data).hexdigest())


def check_target(text: str) -> str:
    """Return a setting that names a target. Raises InvalidValue."""
    if text.startswith("s3://"):
        bucket, _ = split(text)
        if not bucket:
            raise InvalidValue("backup_target must be a folder such as /srv/backups, or s3://bucket/prefix.")
        if is_fleets(text):
            raise InvalidValue(f"Backups cannot be kept in {bucket}: the fleet's own buckets are read by others, or emptied; use another.")
    elif not text.startswith("/"):
        raise InvalidValue("backup_target must be an absolute folder such as /srv/backups, or s3://bucket/prefix.")
    return text
