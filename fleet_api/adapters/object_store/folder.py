"""Buckets as folders of this machine: the store of a fleet that has no S3."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fleet_api.adapters.object_store.types import (
    CHUNK_BYTES,
    PLAIN,
    BucketMissing,
    ObjectDiffers,
    ObjectMissing,
    Shown,
    StoreAway,
    StoredObject,
    StoreFull,
    check_bucket,
    check_key,
)
from fleet_api.errors import InvalidValue
from fleet_api.kit.durable import sync_folder

INCOMING = ".incoming"


class FolderStore:
    """One folder; each folder in it is a bucket. Objects appear whole, by a rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self) -> None:
        """Raise StoreAway where the folder cannot be written."""
        try:
            (self.folder / INCOMING).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _away(self.folder, error) from error

    def buckets(self) -> list[str]:
        """Return the names of the buckets."""
        if not self.folder.is_dir():
            return []
        return sorted(each.name for each in self.folder.iterdir() if each.is_dir() and each.name != INCOMING)

    def make_bucket(self, bucket: str) -> bool:
        """Make a bucket; False if it was there."""
        self.check()
        try:
            (self.folder / check_bucket(bucket)).mkdir()
        except FileExistsError:
            return False
        except OSError as error:
            raise _away(self.folder, error) from error
        return True

    def put(self, bucket: str, key: str, source: Path, sha256: str, shown: Shown = PLAIN) -> StoredObject:
        """Store a copy of a file. ``shown`` has no meaning for a folder."""
        target = self._path(bucket, key)
        self.check()
        partial = self.folder / INCOMING / os.urandom(8).hex()
        with source.open("rb") as read:
            try:
                self._write(read, partial, sha256, f"{bucket}/{key}")
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(target)
                sync_folder(target.parent)
            except OSError as error:
                raise _away(self.folder, error) from error
            finally:
                partial.unlink(missing_ok=True)
        stored = self._stored(key, target)
        if stored is None:
            raise StoreAway(f"The object {bucket}/{key} was stored, and is not there any more.")
        return stored

    def head(self, bucket: str, key: str) -> StoredObject | None:
        """Return what is known of an object; None if it is not there."""
        return self._stored(key, self._path(bucket, key))

    @contextmanager
    def open(self, bucket: str, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """Read an object from byte ``start`` on. Raises ObjectMissing, and StoreAway for a file that cannot be read."""
        path = self._path(bucket, key)
        try:
            file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ObjectMissing(f"There is no object {bucket}/{key}.") from None
        except OSError as error:
            raise _unreadable(bucket, key, error) from error

        def read() -> bytes:
            try:
                return file.read(CHUNK_BYTES)
            except OSError as error:
                raise _unreadable(bucket, key, error) from error

        with file:
            file.seek(start)
            yield iter(read, b"")

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        """Return the objects, by key."""
        folder = self._bucket(bucket)
        for key in sorted(each for each in self._keys(folder) if each.startswith(prefix) and each > after):
            found = self._stored(key, folder / key)
            if found is not None:
                yield found

    def remove(self, bucket: str, key: str) -> None:
        """Delete an object, and the folders that it leaves empty."""
        path = self._path(bucket, key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _away(self.folder, error) from error
        for parent in path.parents:
            if parent == self.folder / bucket or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()

    def presign(self, bucket: str, key: str, seconds: int, host: str | None = None) -> str:
        """Raise: a folder has no URL."""
        raise InvalidValue("The store is a folder of this machine, and its objects have no URL of their own; set FLEET_S3_ENDPOINT.")

    def _bucket(self, bucket: str) -> Path:
        folder = self.folder / check_bucket(bucket)
        if not folder.is_dir():
            raise BucketMissing(f"There is no bucket {bucket!r} in {self.folder}.")
        return folder

    def _path(self, bucket: str, key: str) -> Path:
        return self._bucket(bucket) / check_key(key)

    def _write(self, read: BinaryIO, partial: Path, sha256: str, named: str) -> None:
        digest = hashlib.sha256()
        with partial.open("wb") as file:
            while chunk := read.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise ObjectDiffers(f"The file for {named} is not what it should be: its checksum differs.")

    def _keys(self, folder: Path) -> Iterator[str]:
        """Return what is in a bucket. A folder in it that goes meanwhile, or lets nobody in, is as an empty one."""

        def failed(error: OSError) -> None:
            if str(error.filename) == str(folder) or not isinstance(error, FileNotFoundError | PermissionError):
                raise _away(self.folder, error) from error

        for place, _, files in os.walk(folder, onerror=failed):
            for file in files:
                yield Path(place, file).relative_to(folder).as_posix()

    def _stored(self, key: str, path: Path) -> StoredObject | None:
        """Return what is known of an object; None where no file is there, or none any more."""
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _away(self.folder, error) from error
        return StoredObject(key, found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) else None


def _away(folder: Path, error: OSError) -> StoreAway | StoreFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"The disk of {folder} is full.")
    return StoreAway(f"The folder {folder} cannot be used: {error.strerror or error}.")


def _unreadable(bucket: str, key: str, error: OSError) -> StoreAway:
    return StoreAway(f"The object {bucket}/{key} cannot be read: {error.strerror or error}.")
