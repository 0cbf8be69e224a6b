"""Which files of a data folder a backup holds, and what it leaves out.

A link to a place in its own folder stays a link, as those of ``tls/`` are. For one that leads elsewhere there is the content of the file,
as that may not be there where the backup is restored; a folder that is linked from elsewhere, and what has no name in UTF-8, is left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fleet_api.backups.manifest import DATABASE, KEYS, OUTPUTS, PART, PLAIN


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a backup, or with ``link`` a link: where it leads."""

    name: str
    path: Path
    link: str = ""


@dataclass
class Chosen:
    """What goes into a backup; ``left`` says what does not, and why."""

    sources: list[Source] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def choose(home: Path, database: Path, outputs: bool, keys: bool) -> Chosen:
    """Return what a backup of a data folder holds, with a copy of its database. Raises OSError."""
    found = Chosen([Source(DATABASE, database)])
    for name in (*PLAIN, *(KEYS if keys else ()), *((OUTPUTS,) if outputs else ())):
        root = home / name
        if os.path.isdir(root):
            for path in sorted(root.rglob("*")):
                if (path.is_symlink() or path.is_file()) and not _passing(path, root):
                    _add(found, home, path, keys)
        elif root.is_symlink() or root.is_file():
            _add(found, home, root, keys)
    return found


def stays_inside(name: PurePosixPath, link: str) -> bool:
    """Whether a link leads to its own folder or below."""
    to = PurePosixPath(link)
    return not to.is_absolute() and ".." not in to.parts and len(name.parts) >= 2


def _add(found: Chosen, home: Path, path: Path, keys: bool) -> None:
    name = path.relative_to(home).as_posix()
    link = os.readlink(path) if path.is_symlink() else ""
    if not _is_text(name) or not _is_text(link):
        found.left.append(f"{_shown(name)}: its name is not UTF-8")
    elif not link:
        found.sources.append(Source(name, path))
    elif stays_inside(PurePosixPath(name), link):
        found.sources.append(Source(name, path, link))
    elif not (os.path.isfile(path) and os.access(path, os.R_OK)):
        found.left.append(f"{name}: it is a link to {link}, which is no file that can be read")
    elif not keys and _is_secret(home, path):
        found.left.append(f"{name}: it is a link to a key")
    else:
        found.sources.append(Source(name, path))


def _is_secret(home: Path, path: Path) -> bool:
    """Whether a link leads to what is in a backup only when asked for by name."""
    real, top = path.resolve(), home.resolve()
    return any(real == each or each in real.parents for each in (top / name for name in KEYS))


def _passing(path: Path, root: Path) -> bool:
    """Whether a file is not there to stay: an upload under way, a lock, a part."""
    parts = path.relative_to(root).parts
    return any(part.startswith(".") for part in parts) or path.name == "lock" or path.suffix == PART


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
