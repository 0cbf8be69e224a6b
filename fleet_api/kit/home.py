"""The data folder: private to its user, and used by one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from fleet_api.errors import HomeBusy, Unavailable


def claim(home: Path, lock_name: str) -> IO[str]:
    """Create the data folder (mode 0700) if it is not there, and take its lock.

    The kernel frees the lock when the process ends, however it ends. Returns the locked file; keep it open.

    Raises:
        HomeBusy: another process holds the lock.
        Unavailable: the folder cannot be made or written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(home / lock_name, "a+")  # noqa: SIM115 - held open for the life of the process
    except OSError as error:
        raise Unavailable(f"The data folder {home} cannot be used: {error.strerror}.") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().strip()
        file.close()
        who = f" (pid {pid})" if pid else ""
        raise HomeBusy(f"Fleet Commander already runs on {home}{who}; stop it, or set FLEET_HOME to another folder.") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
