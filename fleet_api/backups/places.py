"""Where a rename can put something, and where it cannot: mount points stay where they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from fleet_api.errors import Conflict

MOUNTS = Path("/proc/self/mountinfo")


def check_movable(home: Path, names: Iterable[str]) -> None:
    """Raise Conflict where an entry of a data folder is a mount point, holds one, or lies on another file system."""
    real = Path(os.path.realpath(home))
    mounted, device = mount_points(), real.stat().st_dev
    for name in names:
        path = real / name
        if not os.path.lexists(path):
            continue
        if path.lstat().st_dev != device or any(path == each or path in each.parents for each in mounted):
            raise Conflict(
                f"{home / name} is a mount point, holds one, or lies on another file system, so a restore cannot put anything in its place "
                "at once; stop the control plane, unmount it, restore, and mount it again."
            )


def mount_points() -> list[Path]:
    """Return where something is mounted; empty where the system does not tell."""
    try:
        lines = MOUNTS.read_bytes().splitlines()
    except OSError:
        return []
    fields = [line.split(b" ") for line in lines]
    return [Path(os.fsdecode(_plain(each[4]))) for each in fields if len(each) > 4]


def _plain(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field)
