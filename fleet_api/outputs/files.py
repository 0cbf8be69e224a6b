"""The folder of outputs: uploads are staged, checked, and put in place in one step.

A name is made of the job's id, so that whichever attempt ends a job, there is one file. ``.thumbnails`` and ``.cache`` (copies of files
that only the bucket has) can be made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from PIL import Image

from fleet_api.errors import Conflict, InvalidValue, Unavailable
from fleet_api.kit.durable import sync_folder

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
SAFE_PART = re.compile(r"[A-Za-z0-9_(][A-Za-z0-9 ._()@+=-]{0,127}\Z")
OWN_NAME = re.compile(r"^image_[0-9a-f-]{36}\.png$")
THUMBNAIL_PIXELS = 256
SPARE_BYTES = 256 * 1024 * 1024


class OutputFiles:
    """Files below one folder; no name leads out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._staging = folder / ".incoming"
        self._thumbnails = folder / ".thumbnails"
        self._cache = folder / ".cache"

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self.folder, self._staging, self._thumbnails, self._cache):
            folder.mkdir(parents=True, exist_ok=True)
        for path in self._cache.glob(".*.part"):
            path.unlink(missing_ok=True)

    def check_name(self, filename: str) -> str:
        """Return an output's name. Raises InvalidValue for one that is not a plain file name."""
        if not SAFE_NAME.match(filename):
            raise InvalidValue("filename must be a plain file name of letters, digits, dots, hyphens and underscores.")
        return filename

    def path(self, key: str) -> Path:
        """Return the path of an output below the folder. Raises InvalidValue for a key that leads elsewhere."""
        if not all(SAFE_PART.match(part) for part in key.split("/")):
            raise InvalidValue(f"key: {key[:100]!r} is not that of an output.")
        return self.folder / key

    def cached(self, filename: str) -> Path:
        """Return the path of the copy of an output that only the bucket has."""
        return self._cache / self.check_name(filename)

    def trim_cache(self, limit: int) -> None:
        """Delete the copies that were asked for longest ago until they take at most ``limit`` bytes."""
        found: list[tuple[float, int, Path]] = []
        for path in self._cache.iterdir():
            with contextlib.suppress(OSError):
                found.append((path.stat().st_atime, path.stat().st_size, path))
        taken = 0
        for _, size, path in sorted(found, reverse=True):
            taken += size
            if taken > limit:
                path.unlink(missing_ok=True)

    def room(self, size: int) -> bool:
        """Say whether the disk has room for so many bytes and some pictures more."""
        return shutil.disk_usage(self._cache).free > size + SPARE_BYTES

    def put_aside(self, path: Path) -> None:
        """Move a file that is nobody's into ``.aside``, where it may be removed by hand."""
        folder = self.folder / ".aside"
        folder.mkdir(exist_ok=True)
        path.replace(folder / path.name)

    def staged(self, job_id: str, attempt: int) -> Path | None:
        """Return the staged upload of an attempt."""
        path = self._staged_path(job_id, attempt)
        return path if path.exists() else None

    async def stage(self, job_id: str, attempt: int, chunks: AsyncIterator[bytes], sha256: str) -> int:
        """Write an upload to disk and check it; return its bytes. Nothing is left of one that does not fit its digest."""
        path = self._staged_path(job_id, attempt)
        partial = path.with_suffix(f".{os.urandom(4).hex()}.part")
        digest = hashlib.sha256()
        size = 0
        try:
            with partial.open("wb") as file:
                async for chunk in chunks:
                    digest.update(chunk)
                    size += file.write(chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            if digest.hexdigest() != sha256:
                raise InvalidValue("X-Content-SHA256 does not fit the bytes that came; send them again.")
            partial.replace(path)
        except OSError as error:
            raise Unavailable(f"The output cannot be stored: {error.strerror or error}.") from error
        finally:
            partial.unlink(missing_ok=True)
        return size

    def check(self, staged: Path, sha256: str) -> int:
        """Return the bytes of a staged PNG. Raises InvalidValue if it is none, and Conflict if it is gone or another file."""
        try:
            data = staged.read_bytes()
        except FileNotFoundError:
            raise Conflict("The upload is gone; send it again.") from None
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                image.verify()
        except Exception:  # Pillow raises many kinds for damaged files
            raise InvalidValue("The output is not a PNG file, or is damaged.") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Conflict("sha256 does not fit the upload; send it again.")
        return len(data)

    def publish(self, staged: Path, filename: str) -> None:
        """Move a staged file to its final name, durably. Raises Conflict if it is gone."""
        try:
            staged.replace(self.folder / filename)
        except FileNotFoundError:
            raise Conflict("The upload is gone; send it again.") from None
        sync_folder(self.folder)

    def drop_staged(self, job_id: str, attempt: int) -> None:
        """Forget an upload."""
        self._staged_path(job_id, attempt).unlink(missing_ok=True)

    def remove(self, filename: str, key: str) -> None:
        """Delete a file, its thumbnail and its copy."""
        for path in (self.path(key), self._thumbnail_path(filename), self.cached(filename)):
            path.unlink(missing_ok=True)

    def thumbnail(self, filename: str, source: Path | None) -> Path | None:
        """Return a WebP of at most 256 pixels a side, made of ``source`` at the first call; None where there is neither."""
        path = self._thumbnail_path(filename)
        if not path.exists():
            if source is None:
                return None
            with Image.open(source) as image:
                image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
                buffer = io.BytesIO()
                image.save(buffer, "WEBP", quality=80)
            partial = path.with_suffix(f".{os.urandom(4).hex()}.part")
            partial.write_bytes(buffer.getvalue())
            partial.replace(path)
        return path

    def own_files(self) -> dict[str, Path]:
        """Return our own pictures by the id of their job."""
        return {path.name[6:-4]: path for path in self.folder.iterdir() if OWN_NAME.match(path.name)}

    def sweep_staging(self, open_attempts: set[tuple[str, int]]) -> None:
        """At start: remove uploads that a crash cut off, and those of attempts that are no longer open."""
        for path in self._staging.iterdir():
            job_id, _, attempt = path.name.partition(".")
            if path.suffix == ".part" or not attempt.isdigit() or (job_id, int(attempt)) not in open_attempts:
                path.unlink(missing_ok=True)

    def _staged_path(self, job_id: str, attempt: int) -> Path:
        if not re.match(r"^[0-9a-f-]{36}$", job_id):
            raise InvalidValue("job_id must be a UUID.")
        return self._staging / f"{job_id}.{int(attempt)}"

    def _thumbnail_path(self, filename: str) -> Path:
        name = self.check_name(filename)
        return self._thumbnails / f"{name[:-4] if OWN_NAME.match(name) else name}.webp"
