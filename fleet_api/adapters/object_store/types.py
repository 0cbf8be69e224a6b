"""What is asked of an object store. Blocking: callers of the event loop go through a thread."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fleet_api.errors import Conflict, InvalidValue, NotFound, Unavailable

CHUNK_BYTES = 1024 * 1024
"""Bytes in memory for one object that is read or written."""

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._+@()=-]{0,199}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class StoreAway(Unavailable):
    """No object store answers there, or not as one should."""


class StoreRefuses(Unavailable):
    """The object store does not let this control plane in, or not do this."""


class StoreFull(Unavailable):
    """There is no room for another object."""


class BucketMissing(Unavailable):
    """The bucket is not there."""


class ObjectMissing(NotFound):
    """The object is not there."""


class ObjectDiffers(Conflict):
    """The bytes are not those that were meant: cut off on the way, changed, or of another size or checksum."""


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where an S3 store is and how one signs in. ``authority`` is a file of CA certificates beside the system's."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    authority: Path | None = None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store tells of it.

    ``modified`` is in epoch seconds. ``md5`` is the hex MD5 of the bytes where the store tells it, else empty. ``sha256`` is what the
    writer said of them, which only reading proves; else empty.
    """

    key: str
    size: int
    modified: float
    md5: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """How an object is served to those who fetch it by URL."""

    content_type: str = "application/octet-stream"
    disposition: str = ""
    cache: str = ""


PLAIN = Shown()


class ObjectStore(Protocol):
    """One store of buckets. Every method may raise StoreAway and StoreRefuses; those that name a bucket, BucketMissing."""

    def check(self) -> None:
        """Ask whether the store answers and lets us in."""
        ...

    def buckets(self) -> list[str]:
        """Return the names of the buckets."""
        ...

    def make_bucket(self, bucket: str) -> bool:
        """Make a bucket; False if it was there."""
        ...

    def put(self, bucket: str, key: str, source: Path, sha256: str, shown: Shown = PLAIN) -> StoredObject:
        """Store a file's bytes whole or not at all, in parts where it is large, and return what the store has.

        Raises:
            ObjectDiffers: the file is not, or is no more, what ``sha256`` says; nothing is stored.
            StoreFull: there is no room.
        """
        ...

    def head(self, bucket: str, key: str) -> StoredObject | None:
        """Return what the store tells of an object; None if it is not there."""
        ...

    def open(self, bucket: str, key: str, start: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """Read an object from byte ``start`` on, :data:`CHUNK_BYTES` at a time. Raises ObjectMissing; ObjectDiffers if it ends early."""
        ...

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        """Return the objects whose keys begin with ``prefix`` and come after ``after``, by key."""
        ...

    def remove(self, bucket: str, key: str) -> None:
        """Delete an object; nothing happens if it is not there."""
        ...

    def presign(self, bucket: str, key: str, seconds: int, host: str | None = None) -> str:
        """Return a URL that reads the object without a key for so long. Raises InvalidValue where the store has none."""
        ...


def check_key(key: str) -> str:
    """Return a key that every file system and URL takes as it is. Raises InvalidValue."""
    segments = key.split("/")
    if len(key) > 900 or not all(_SEGMENT.fullmatch(each) and not each.endswith((".", " ")) for each in segments):
        raise InvalidValue(f"key: {key[:100]!r} is not allowed; use names of letters, digits and ' ._+@()=-' with slashes between them.")
    return key


def check_bucket(bucket: str) -> str:
    """Return a bucket's name. Raises InvalidValue."""
    if not _BUCKET.fullmatch(bucket):
        raise InvalidValue(f"bucket: {bucket[:63]!r} is not allowed; use 3 to 63 lower-case letters, digits and hyphens.")
    return bucket
