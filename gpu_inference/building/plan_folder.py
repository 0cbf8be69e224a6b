"""A folder of engines and of what each is, under a limit of bytes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

SUFFIX = ".plan"
PART = ".part"
CHUNK_BYTES = 1024 * 1024
FUSED = "fused-"
LEFT_SECONDS = 3600.0
_RECORD = ".json"


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hex. Raises :class:`OSError`."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(CHUNK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


class PlanFolder:
    """What was used least recently goes first. A ``limit`` of 0 is none."""

    def __init__(self, folder: Path, limit: int = 0) -> None:
        self.folder, self.limit = folder, limit

    def keep(self, path: Path, plan: memoryview, said: Dict[str, Any], pinned: Sequence[Path] = ()) -> None:
        """Writes an engine, whole or not at all, and what it is beside it; others, but those ``pinned``, make room for it.

        Raises :class:`OSError`.
        """
        part = self.room_for(path, plan.nbytes, pinned)
        try:
            part.write_bytes(plan)
            self.adopt(path, said, part)
        finally:
            if part.exists():
                part.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Builds here while no other process does; what one that was killed has left is removed. Raises :class:`BlockingIOError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in self.folder.glob(FUSED + "*"):
                shutil.rmtree(str(left), ignore_errors=True)
            for part in self.folder.glob("*" + PART):
                if time.time() - part.stat().st_mtime > LEFT_SECONDS:  # the agent may be fetching another
                    part.unlink()
            yield

    def room_for(self, path: Path, size: int, pinned: Sequence[Path] = ()) -> Path:
        """Makes room for an engine of so many bytes; returns the file to write it to, for :meth:`adopt`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(size, pinned)
        return path.with_suffix(f".{uuid.uuid4().hex[:8]}{PART}")

    def adopt(self, path: Path, said: Dict[str, Any], part: Path) -> None:
        """Takes in what was written to the file ``part`` of :meth:`room_for`, durably."""
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        path.with_suffix(_RECORD).write_text(json.dumps(dict(said, size=part.stat().st_size), indent=2) + "\n", encoding="utf-8")
        os.replace(str(part), str(path))

    def all(self) -> List[Dict[str, Any]]:
        """What is there, as it was built; unreadable records are left out."""
        found = []
        for record in sorted(self.folder.glob("*" + _RECORD)):
            if record.with_suffix(SUFFIX).is_file():
                try:
                    found.append(dict(json.loads(record.read_text(encoding="utf-8")), file=record.stem + SUFFIX))
                except (OSError, ValueError):
                    continue
        return found

    def remove(self, model: Optional[str] = None) -> int:
        """Removes the engines of a model, or all; returns how many."""
        count = 0
        for said in self.all():
            if model is None or said.get("model") == model:
                self._unlink(self.folder / str(said["file"]))
                count += 1
        return count

    def _make_room(self, size: int, pinned: Sequence[Path]) -> None:
        if not self.limit:
            return
        there = sorted(self.folder.glob("*" + SUFFIX), key=lambda path: path.stat().st_mtime)
        held = sum(path.stat().st_size for path in there)
        for path in there:
            if held + size <= self.limit:
                return
            if path in pinned:
                continue
            held -= path.stat().st_size
            self._unlink(path)

    @staticmethod
    def _unlink(path: Path) -> None:
        for each in (path, path.with_suffix(_RECORD)):
            if each.exists():
                each.unlink()
