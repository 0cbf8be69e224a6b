# Copyright: Fleet Commander contributors. Apache-2.0.
"""What is free on a node's disks where something is installed, and what an installation that was cut off has left there."""

from __future__ import annotations

import os

CURRENT = "current"
LIBRARIES = "libraries"
"""In an environment, the link to the one that has its libraries, if they are apart."""


def free_mib(folder: str) -> int | None:
    """Return what is free on the file system that holds a folder, or will hold it once it is made, in MiB; None where that is not told."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        space = os.statvfs(folder)
    except OSError:
        return None
    return int(space.f_bavail * space.f_frsize / 1024 / 1024)


def in_use(folder: str) -> tuple[str | None, str | None]:
    """Return the digests of the environment in use and of its libraries, if they are apart; one whose libraries are gone is not in use."""
    current = os.path.join(folder, CURRENT)
    libraries = os.path.join(current, LIBRARIES)
    if not os.path.isdir(current) or (os.path.islink(libraries) and not os.path.isdir(libraries)):
        return None, None
    apart = _name(libraries).partition("-")[2] if os.path.islink(libraries) else None
    return _name(current), apart


def libraries_name(digest: str) -> str:
    """Return the name of the environment of libraries."""
    return f"{LIBRARIES}-{digest}"


def leftovers(folder: str) -> list[str]:
    """Return all in a folder of environments but the one in use and the one that has its libraries."""
    digest, libraries = in_use(folder)
    used = {CURRENT, digest, libraries_name(libraries or "")}
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name not in used]
    except OSError:
        return []


def _name(link: str) -> str:
    return os.path.basename(os.path.realpath(link))


def size_mib(paths: list[str]) -> int:
    """Return what files and folders take together, in MiB; what cannot be looked at counts nothing."""
    total = 0
    for path in paths:
        for place, _, names in [("", [], [path])] if os.path.isfile(path) else os.walk(path):
            for name in names:
                try:
                    total += os.lstat(os.path.join(place, name)).st_size
                except OSError:
                    continue
    return total >> 20


def room_mib(folder: str) -> int | None:
    """Return what the next installation may take in a folder of environments: what is free, and what it removes first."""
    free = free_mib(folder)
    return None if free is None else free + size_mib(leftovers(folder))
