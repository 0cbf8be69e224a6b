"""The data folder: private to its user, and used by one process at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from fleet_api.errors import HomeBusy, Unavailable

LOCAL_ADDRESS, PUBLIC_ADDRESS = "url", "public-url"


def make(home: Path) -> None:
    """Create the data folder, for its user alone, if it is not there. Raises Unavailable."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable(f"The data folder {home} cannot be used: {error.strerror}.") from None


def claim(home: Path, lock_name: str) -> IO[str]:
    """Create the data folder if it is not there, take away what others may do in it (mode 0700), and take its lock.

    The kernel frees the lock when the process ends, however it ends. Returns the locked file; keep it open.

    Raises:
        HomeBusy: another process holds the lock.
        Unavailable: the folder cannot be made or written.
    """
    make(home)
    _tighten(home)
    try:
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


def _tighten(home: Path) -> None:
    with suppress(OSError):
        found = home.stat()
        shared = found.st_mode & stat.S_ISVTX or found.st_uid != os.getuid()  # such as /tmp, or a volume that somebody else set up
        if found.st_mode & 0o077 and not shared:
            home.chmod(0o700)


def give_to_owner(home: Path, paths: Iterable[Path]) -> None:
    """Where root works on a data folder, give entries of it, and what is below them, to whom the folder belongs.

    Links are given away themselves: what they lead to may be anybody's.
    """
    owner = home.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in paths:
        for each in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
            with suppress(FileNotFoundError):
                os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)


def note_addresses(home: Path, local: str, public: str) -> None:
    """Write down where the API answers: for commands on this machine, and for other machines."""
    (home / LOCAL_ADDRESS).write_text(local + "\n")
    (home / PUBLIC_ADDRESS).write_text(public + "\n")


def public_address(home: Path) -> str | None:
    """Return where other machines reach the API of this data folder, or reached it last."""
    try:
        return (home / PUBLIC_ADDRESS).read_text().strip() or None
    except OSError:
        return None
