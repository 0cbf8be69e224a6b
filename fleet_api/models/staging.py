"""The folder of uploads on their way in. Each is a note and the bytes that have come, so that a restart loses neither."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from fleet_api.errors import InvalidValue, NotFound, Unavailable
from fleet_api.models.safetensors import FIRST_BYTES, refuse_foreign

BUFFER_BYTES = 1024 * 1024
"""So much of an upload is in memory at once."""

RESERVE_BYTES = 256 * 1024 * 1024
"""So much of the disk is left free."""

KEPT_SECONDS = 86_400.0
"""An upload to which nothing has come for so long is given up."""


class DiskFull(Unavailable):
    """No room for an upload."""


class Note(BaseModel):
    """What an upload is to become. ``size`` is None while it is not known."""

    id: str
    kind: str
    name: str
    filename: str
    size: int | None
    sha256: str | None = None
    base: str = ""
    source: str = ""


class Staging:
    """Files below one folder; no caller's word is in a path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, note: Note) -> None:
        """Write down what is going to come. Raises DiskFull, and Unavailable for a folder that cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.check_room(note.size or 0)
            self.path(note.id).touch(mode=0o600)
            self._note(note.id).write_text(note.model_dump_json())
        except OSError as error:
            self.remove(note.id)
            raise _unusable(self.folder, error) from error

    def check_room(self, wanted: int) -> None:
        """Raise DiskFull unless the disk has room for so many bytes more."""
        free = shutil.disk_usage(self.folder).free
        if wanted + RESERVE_BYTES > free:
            raise DiskFull(
                f"The disk of {self.folder} has {free:,} bytes free; {wanted:,} are wanted, and {RESERVE_BYTES:,} are kept free. "
                "Make room, and try again."
            )

    def note(self, upload_id: str) -> Note:
        """Return what an upload is to become. Raises NotFound."""
        try:
            if len(upload_id) == 32 and upload_id.isalnum() and upload_id.isascii():
                return Note.model_validate_json(self._note(upload_id).read_bytes())
        except (OSError, ValidationError):
            pass
        raise NotFound(f"There is no upload {upload_id[:64]!r}: it was stored, given up, or refused.")

    def notes(self) -> list[Note]:
        """Return every upload that can go on."""
        found = []
        for path in self.folder.glob("*.json"):
            try:
                found.append(self.note(path.stem))
            except NotFound:
                continue
        return found

    def path(self, upload_id: str) -> Path:
        """Return where the bytes of an upload are."""
        return self.folder / f"{upload_id}.part"

    def offset(self, upload_id: str) -> int:
        """Return how many bytes have come."""
        try:
            return self.path(upload_id).stat().st_size
        except FileNotFoundError:
            return 0

    async def append(self, upload_id: str, size: int | None, limit: int, chunks: AsyncIterator[bytes]) -> int:
        """Write what comes after what is there; return the bytes that are there now. What came before an error is kept.

        Raises:
            InvalidValue: more came than was said, or the first bytes are those of something else.
            DiskFull: the disk is full.
        """
        path = self.path(upload_id)
        there = self.offset(upload_id)
        buffer = bytearray()
        looked = there > 0
        try:
            with path.open("ab") as file:
                try:
                    async for chunk in chunks:
                        if there + len(buffer) + len(chunk) > (limit if size is None else size):
                            raise InvalidValue(f"file: more came than the {limit if size is None else size:,} bytes that were announced.")
                        buffer += chunk
                        if not looked and len(buffer) >= FIRST_BYTES:
                            refuse_foreign(bytes(buffer[:FIRST_BYTES]), size)
                            looked = True
                        if len(buffer) >= BUFFER_BYTES:
                            there += await asyncio.to_thread(file.write, bytes(buffer))
                            buffer.clear()
                finally:
                    there += file.write(buffer)
                    file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
        except OSError as error:
            raise _unusable(self.folder, error) from error
        return there

    def remove(self, upload_id: str) -> None:
        """Forget an upload."""
        self._note(upload_id).unlink(missing_ok=True)
        self.path(upload_id).unlink(missing_ok=True)

    def sweep(self, kept_seconds: float = KEPT_SECONDS) -> int:
        """Remove what has been left for too long, and what belongs to no upload; return the number."""
        removed = 0
        for path in self.folder.glob("*"):
            try:
                old = time.time() - max(path.stat().st_mtime, self._touched(path.stem)) > kept_seconds
                if old or not self._note(path.stem).exists():
                    path.unlink(missing_ok=True)
                    removed += 1
            except FileNotFoundError:
                continue
        return removed

    def _touched(self, upload_id: str) -> float:
        try:
            return self.path(upload_id).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _note(self, upload_id: str) -> Path:
        return self.folder / f"{upload_id}.json"


def _unusable(folder: Path, error: OSError) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"The disk of {folder} is full; what came so far is kept for a day. Make room, and go on.")
    return Unavailable(f"The folder {folder} cannot be used: {error.strerror or error}.")
