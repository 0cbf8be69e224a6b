"""The data folder: private to its user, and used by one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


class HomeInUse(Exception):
    """Another process holds the lock."""


def prepare(home: Path) -> Path:
    """Create the folder with mode 0700 if it is not there. Raises OSError when it cannot be written."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home


def lock(path: Path) -> IO[str]:
    """Take an exclusive lock that the kernel frees when the process ends, however it ends.

    Returns the open file; keep it. Raises :class:`HomeInUse` with the other's pid in its text.
    """
    file = open(path, "a+")  # noqa: SIM115 - held open for the life of the process
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().strip()
        file.close()
        raise HomeInUse(f"pid {pid}" if pid else "another process") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
