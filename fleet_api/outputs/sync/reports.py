"""What a sync, a cleanup and a move did, and how far one is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Synced:
    """What a sync did. ``skipped`` were in the bucket before; ``detail`` says why it ended early, if it did."""

    uploaded: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0
    adopted: int = 0
    detail: str | None = None


@dataclass(slots=True)
class Cleaned:
    """What a cleanup deleted, or would. ``kept_unsynced`` are old enough, and not proved to be in the bucket."""

    dry_run: bool
    deleted: int = 0
    freed_bytes: int = 0
    kept_unsynced: int = 0
    detail: str | None = None


@dataclass(slots=True)
class Moved:
    """What a move did: a sync, then a cleanup of every age."""

    synced: Synced
    cleaned: Cleaned


@dataclass(slots=True)
class Progress:
    """What is being done, and how far it is."""

    doing: str
    total: int
    ended: list[int] = field(default_factory=list)

    @property
    def done(self) -> int:
        """So many outputs were looked at; threads add to the list, which needs no lock."""
        return len(self.ended)
