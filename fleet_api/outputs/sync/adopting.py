"""Outputs that other programs wrote: below ``comfyui/`` and ``animatediff/``, in the folder or in the bucket. They get a row like our own.

A file is taken up when nobody has written to it for :data:`SETTLED_SECONDS`. What is no picture or video, or has a name that not every
system takes, is left alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import time
from pathlib import Path, PurePosixPath
from typing import Any

import structlog
from PIL import Image

from fleet_api.adapters.object_store.types import ObjectStore, StoreAway, StoredObject, StoreRefuses, check_key
from fleet_api.adapters.object_store.verified import digests
from fleet_api.errors import InvalidValue
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.outputs import repository
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.media import is_picture, media_type
from fleet_api.outputs.models import Output
from fleet_api.outputs.sync.embedded import read_workflow
from fleet_api.storage.buckets import OUTPUTS

log = structlog.get_logger()

PROGRAMS = ("comfyui", "animatediff")
SETTLED_SECONDS = 5.0
AT_ONCE = 1000
LARGEST_BYTES = 512 * 1024 * 1024
_LONGEST_NAME = 100
FROM_BUCKET = 100
"""So many objects a sync are read to learn their checksum; the rest follows with the next."""


class Adopting:
    """One instance a process."""

    def __init__(self, db: Database, clock: Clock, files: OutputFiles) -> None:
        self._db = db
        self._clock = clock
        self._files = files
        self._refused: set[StoredObject] = set()

    async def from_folder(self) -> int:
        """Take up new files of the outputs' folder; return how many."""
        known = await self._db.read(repository.keys)
        found = await asyncio.to_thread(self._look, known)
        if found:
            await self._db.write(lambda db: repository.add_all(db, found))
        return len(found)

    async def from_bucket(self, store: ObjectStore) -> int:
        """Take up new objects of the bucket; return how many. Each is read once."""
        known = await self._db.read(repository.keys)
        found = await asyncio.to_thread(self._look_at, store, known)
        if found:
            await self._db.write(lambda db: repository.add_all(db, found))
        return len(found)

    async def again(self, wrong: list[Output]) -> int:
        """Look at those that do not fit their rows: what its program wrote anew is described anew, what it deleted is forgotten."""
        found = 0
        for each in (one for one in wrong if not one.job_id):
            path = self._files.path(each.key)
            if not path.exists():
                await self._db.write(lambda db, each=each: repository.remove(db, [each]))  # type: ignore[misc]
            elif (fresh := await asyncio.to_thread(self._settled, path, each.key)) is not None:
                await self._db.write(lambda db, fresh=fresh: repository.renew(db, fresh))  # type: ignore[misc]
                found += 1
        return found

    def _look(self, known: set[str]) -> list[Output]:
        found: list[Output] = []
        for path in itertools.chain(*(sorted((self._files.folder / program).rglob("*")) for program in PROGRAMS)):
            key = path.relative_to(self._files.folder).as_posix()
            if key not in known and self._wanted(key) and (described := self._settled(path, key)) is not None:
                found.append(described)
                if len(found) == AT_ONCE:
                    break
        return found

    def _settled(self, path: Path, key: str) -> Output | None:
        """Describe a file that nobody writes to any more; None for one that cannot be described."""
        try:
            modified = path.stat().st_mtime
            if path.is_symlink() or not path.is_file() or time.time() - modified < SETTLED_SECONDS:
                return None
            return self._describe(path, key, modified)
        except Exception as error:  # Pillow raises many kinds for damaged files
            log.warning("output_not_adopted", key=key, why=str(error))
            return None

    def _look_at(self, store: ObjectStore, known: set[str]) -> list[Output]:
        new = (each for program in PROGRAMS for each in store.list(OUTPUTS, f"{program}/") if each.key not in known)
        wanted = (each for each in new if each not in self._refused and self._wanted(each.key) and each.size <= LARGEST_BYTES)
        found: list[Output] = []
        for each in itertools.islice(wanted, FROM_BUCKET):
            try:
                found.append(self._read(store, each))
            except (StoreAway, StoreRefuses):
                raise
            except Exception as error:  # of this object alone: gone, cut off, or no picture after all
                log.warning("output_not_adopted", key=each.key, why=str(error))
                self._refused.add(each)
        return found

    def _read(self, store: ObjectStore, object_: StoredObject) -> Output:
        copy = self._files.cached(filename_of(object_.key))
        try:
            with store.open(OUTPUTS, object_.key) as chunks, copy.open("wb") as file:
                file.writelines(chunks)
            output = self._describe(copy, object_.key, object_.modified)
            if is_picture(output.filename):
                self._files.thumbnail(output.filename, copy)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        output.local, output.synced_at = False, self._clock.now()
        return output

    def _wanted(self, key: str) -> bool:
        try:
            self._files.path(check_key(key))
        except InvalidValue:
            return False
        return media_type(key) is not None

    def _describe(self, path: Path, key: str, made: float) -> Output:
        size, sha256, _ = digests(path)
        width = height = 0
        said: dict[str, Any] = {}
        if is_picture(key):
            with Image.open(path) as image:
                width, height = image.size
                said = read_workflow(image.info)
        return Output(
            filename=filename_of(key), key=key, job_id="", node_id="", prompt=said.pop("prompt", ""), model=said.pop("model", ""),
            seed=said.pop("seed", 0), width=width, height=height, bytes=size, sha256=sha256,
            created_at=min(made, self._clock.now()), parameters={"program": key.split("/")[0], **said},
        )  # fmt: skip


def filename_of(key: str) -> str:
    """Return the name under which an output of another program is shown: plain, and one for each key, by a part of its hash."""
    path = PurePosixPath(key)
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", key.removesuffix(path.suffix))[-_LONGEST_NAME:].lstrip("._-")
    return f"{plain}-{hashlib.sha256(key.encode()).hexdigest()[:8]}{path.suffix.lower()}"
