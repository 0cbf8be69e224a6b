"""Where certificates lie, and how what is served is changed at once.

``served`` is a link to a folder that holds a certificate, its key and whom clients are to trust. Another one is written beside it,
and the link moved when all of it is on the disk: a stop at any moment leaves the old or the new, never a part of each.
``server.crt``, ``server.key`` and ``ca.crt`` are links through ``served``, so that their paths stay.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet_api.errors import Unavailable
from fleet_api.kit.durable import sync_folder

CERTIFICATE, KEY, CA_FILE, BROUGHT = "server.crt", "server.key", "ca.crt", "brought"
"""What a served folder holds; the last is empty, and marks a certificate from elsewhere."""
OWN_CA, OWN_CA_KEY = "own-ca.crt", "own-ca.key"
"""The fleet's own authority; it is kept while a certificate from elsewhere is served."""

SERVED, LOCK, FORMER_KEY = "served", "lock", "ca.key"
MODES = {KEY: 0o600, OWN_CA_KEY: 0o600}
PATIENCE = 2.0  # seconds that another program's change is waited for
LINKED = (CERTIFICATE, KEY, CA_FILE)


def place(folder: Path) -> Path:
    """Return the folder of what is served now. What is in it does not change, so that its files fit together."""
    try:
        return folder / os.readlink(folder / SERVED)
    except OSError:
        return folder / SERVED if (folder / SERVED).is_dir() else folder


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Keep other programs from changing the folder. Raises Unavailable where one does so for long."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / LOCK, "a", opener=_private) as file:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"Another program is changing the certificates in {folder}; try again in a moment.") from None
                time.sleep(0.05)
        settle(folder)
        yield


def settled(folder: Path) -> bool:
    """Say whether the folder is laid out as this version wants it."""
    if (folder / FORMER_KEY).exists() and not (folder / OWN_CA_KEY).exists():
        return False
    return all((folder / name).is_symlink() for name in (SERVED, *LINKED))


def settle(folder: Path) -> None:
    """Bring a folder that an earlier version made, or that was copied without its links, into this version's order."""
    former = folder / FORMER_KEY
    if former.exists() and not (folder / OWN_CA_KEY).exists():
        with suppress(FileNotFoundError):
            write(folder / OWN_CA, (folder / CA_FILE).read_bytes())
        former.chmod(0o600)
        former.replace(folder / OWN_CA_KEY)
    served = folder / SERVED
    if served.is_dir() and not served.is_symlink():
        copied = folder / _new_name()
        served.rename(copied)
        _point(folder, copied)
    elif not served.is_symlink() and (folder / CERTIFICATE).exists():
        found = {name: (folder / name).read_bytes() for name in (*LINKED, BROUGHT) if (folder / name).exists()}
        _point(folder, prepare(folder, found))
    if served.is_symlink():
        _link(folder)


def prepare(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write a folder that may be served, and return it."""
    made = folder / _new_name()
    made.mkdir(mode=0o700)
    for name, content in files.items():
        write(made / name, content)
    sync_folder(made)
    return made


def switch(folder: Path, made: Path) -> None:
    """Serve what :func:`prepare` wrote, and forget what was served before."""
    _point(folder, made)
    _link(folder)
    for other in folder.glob(f"{SERVED}-*"):
        if other.name != made.name:
            shutil.rmtree(other, ignore_errors=True)


def write(path: Path, content: bytes) -> None:
    """Write a file at once or not at all; keys are for their owner alone."""
    _write(path, content, MODES.get(path.name, 0o644))


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner alone, at once or not at all."""
    _write(path, content, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _point(folder: Path, made: Path) -> None:
    _put_link(folder / SERVED, made.name)
    sync_folder(folder)


def _link(folder: Path) -> None:
    for name in LINKED:
        if not (folder / name).is_symlink():
            _put_link(folder / name, f"{SERVED}/{name}")
    (folder / BROUGHT).unlink(missing_ok=True)


def _put_link(path: Path, target: str) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.replace(path)


def _new_name() -> str:
    return f"{SERVED}-{secrets.token_hex(4)}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
