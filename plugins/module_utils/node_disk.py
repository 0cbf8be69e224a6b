# Copyright: Fleet Commander contributors. Apache-2.0.
"""What is free on a node's disks where something is installed, and what an installation that was cut off has left there."""

from __future__ import annotations

import os

CURRENT = "current"


def free_mib(folder: str) -> int | None:
    """Return what is free on the file system that holds a folder, or will hold it once it is made, in MiB; None where that is not told."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        space = os.statvfs(folder)
    except OSError:
        return None
    return int(space.f_bavail * space.f_frsize / 1024 / 1024)


def leftovers(folder: str) -> list[str]:
    """Return all in a folder of environments but the one in use."""
    used = {CURRENT, os.path.basename(os.path.realpath(os.path.join(folder, CURRENT)))}
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name not in used]
    except OSError:
        return []


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
