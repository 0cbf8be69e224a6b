"""Which archives this data folder has begun to put, or to remove, and not ended: what a killed run leaves is known by this alone.

An archive that somebody copied to the target, or that another control plane is making there, is never among them.
"""

from __future__ import annotations

import os
from pathlib import Path

from fleet_api.backups.manifest import ID

FILE = ".backups-unfinished"


def read(home: Path) -> set[str]:
    """Return the ids of archives that were begun and not ended."""
    try:
        lines = (home / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return set()
    return {line for line in lines if ID.fullmatch(line)}


def begin(home: Path, backup_id: str) -> None:
    """Note an archive, durably, before anything of it is at the target, or before it is removed. Raises OSError."""
    _write(home, read(home) | {backup_id})


def end(home: Path, backup_id: str) -> None:
    """Forget it: it is whole, or gone. Raises OSError."""
    _write(home, read(home) - {backup_id})


def _write(home: Path, ids: set[str]) -> None:
    path = home / FILE
    if not ids:
        path.unlink(missing_ok=True)
        return
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.write("".join(f"{each}\n" for each in sorted(ids)))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
