"""Files that survive a power cut, readable by their owner only."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


class StateDirLocked(Exception):
    """Another agent works on the same state folder."""


def make_private_dir(path: Path) -> None:
    """Makes the folder and its parents; the folder itself is the owner's only."""
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(str(path), 0o700)


def write_private(path: Path, content: bytes) -> None:
    """Writes a file of mode 0600 that is there whole or not at all, and is on disk when this returns."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(str(partial), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(str(partial), str(path))
    except BaseException:
        partial.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts on disk which names a folder has: a file that was renamed into it is there after a power cut."""
    handle = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_dir(path: Path) -> IO[bytes]:
    """Holds the state folder until the returned file is closed. Raises :class:`StateDirLocked`."""
    make_private_dir(path)
    stream = (path / "lock").open("ab")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise StateDirLocked(f"Another agent already works on the state folder {path}.") from error
    return stream
