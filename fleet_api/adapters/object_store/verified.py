"""Reading back: what proves that an object is what it should be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from fleet_api.adapters.object_store.types import CHUNK_BYTES, ObjectDiffers, ObjectStore


def verify(store: ObjectStore, bucket: str, key: str, size: int, sha256: str) -> None:
    """Read every byte of an object again. Raises ObjectMissing, and ObjectDiffers unless size and checksum are these."""
    digest, read = hashlib.sha256(), 0
    with store.open(bucket, key) as chunks:
        for chunk in chunks:
            digest.update(chunk)
            read += len(chunk)
            if read > size:
                break
    if read != size or digest.hexdigest() != sha256:
        raise ObjectDiffers(f"The object {bucket}/{key} is not what was stored: its size or its checksum differs.")


def fetch(store: ObjectStore, bucket: str, key: str, target: Path, size: int, sha256: str) -> None:
    """Write an object to a file, whole, checked and durable, or not at all. Raises ObjectMissing, ObjectDiffers and OSError."""
    partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    digest, read = hashlib.sha256(), 0
    try:
        with partial.open("wb") as file:
            with store.open(bucket, key) as chunks:
                for chunk in chunks:
                    digest.update(chunk)
                    read += file.write(chunk)
                    if read > size:
                        break
            file.flush()
            os.fsync(file.fileno())
        if read != size or digest.hexdigest() != sha256:
            raise ObjectDiffers(f"The object {bucket}/{key} is not what was stored: its size or its checksum differs.")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def digests(path: Path) -> tuple[int, str, str]:
    """Return a file's size in bytes, its SHA-256 and its MD5, both hex, read once."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
            size += len(chunk)
    return size, sha256.hexdigest(), md5.hexdigest()
