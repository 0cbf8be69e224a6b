"""Finds what was put straight into the buckets, and what was taken out of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import Any

import structlog

from fleet_api.adapters.object_store.types import BucketMissing, ObjectMissing, ObjectStore, StoredObject
from fleet_api.errors import FleetError, InvalidValue
from fleet_api.kit.clock import Clock
from fleet_api.models.finite import Finite
from fleet_api.models.judging import ENGINE_MANIFEST, MAX_MANIFEST, lone_file, manifest_digests, of_folder, of_safetensors
from fleet_api.models.kinds import BUCKETS, CHECKPOINT, INDEX, LORA, NAME_RULE, SUFFIX, UNFINISHED, digest_of, is_name
from fleet_api.models.models import StoredModel
from fleet_api.models.safetensors import check
from fleet_api.models.schemas import Refused, Scanned
from fleet_api.models.store import ModelStore
from fleet_api.storage.service import Storage

log = structlog.get_logger()

SETTLED_SECONDS = 10.0
"""What changed later than this may still be being copied."""

Files = dict[str, StoredObject]


class Scanner:
    """One instance a process, used on the event loop only."""

    def __init__(self, clock: Clock, storage: Storage, models: ModelStore) -> None:
        self._clock = clock
        self._storage = storage
        self._models = models
        self._one = asyncio.Lock()
        self._refused: dict[tuple[str, str], tuple[object, str]] = {}
        self._away = False

    async def look(self) -> Scanned:
        """Scan in the background; a store that is away is logged once. Raises as :meth:`scan`."""
        try:
            done = await self.scan()
        except FleetError as error:
            if not self._away:
                log.warning("model_scan_failed", reason=error.detail)
            self._away = True
            raise
        self._away = False
        return done

    async def scan(self) -> Scanned:
        """Compare the buckets with the index, and list or forget what differs. Raises what the store raises where it is away.

        What was listed later than the buckets were is let be: this round saw nothing of it.
        """
        done = Scanned(found=[], gone=[], refused=[])
        async with self._one:
            store = await self._storage.models()
            for kind in (CHECKPOINT, LORA):
                rows = {row.name: row for row in self._models.all(kind)}
                folders = await asyncio.to_thread(_folders, store, BUCKETS[kind])
                for name, files in folders.items():
                    await self._look_at(store, kind, name, rows.get(name), files, done)
                for name, row in rows.items():
                    if name not in folders and self._stands(row):
                        await self._models.forget(kind, name)
                        done.gone.append(name)
        return done

    def _stands(self, row: StoredModel) -> bool:
        """Say whether the index still has this very row, and nobody is changing it."""
        return self._models.find(row.type, row.name) is row and not self._models.changing(row.type, row.name)

    async def _look_at(self, store: ObjectStore, kind: str, name: str, row: StoredModel | None, files: Files, done: Scanned) -> None:
        if self._models.find(kind, name) is not row or self._models.changing(kind, name) or (row is not None and _fits(row, files)):
            return
        seen = tuple(sorted((each.key, each.size, each.modified) for each in files.values()))
        before, why = self._refused.get((kind, name), (None, ""))
        if before != seen:
            if INDEX not in files and any(time.time() - each.modified < SETTLED_SECONDS for each in files.values()):
                return
            try:
                found = await asyncio.to_thread(_read, store, kind, name, files, self._clock.now())
            except ObjectMissing:  # it was taken out meanwhile; the next round sees what is there then
                return
            except FleetError as error:
                lasting = isinstance(error, InvalidValue)  # all else is looked at again, as what a file says need not change for it
                if not lasting:
                    await asyncio.to_thread(store.check)
                told, why = why, error.detail.removeprefix("file: ")
                self._refused[kind, name] = (seen if lasting else None, why)
                if lasting or told != why:
                    log.warning("stored_model_refused", type=kind, name=name, reason=why)
            else:
                self._refused.pop((kind, name), None)
                if not self._models.changing(kind, name) and self._models.find(kind, name) is row:
                    await self._models.keep(found)
                    done.found.append(name)
                return
        if row is not None and self._stands(row):
            await self._models.forget(kind, name)
            done.gone.append(name)
        done.refused.append(Refused(name=name[:200], reason=why))


def _folders(store: ObjectStore, bucket: str) -> dict[str, Files]:
    """Return the files of each folder of a bucket."""
    found: dict[str, Files] = {}
    try:
        for each in store.list(bucket):
            name, slash, file = each.key.partition("/")
            if slash and "/" not in file:
                found.setdefault(name, {})[file] = each
    except BucketMissing:
        return {}
    return found


def _fits(row: StoredModel, files: Files) -> bool:
    return all(each["name"] in files and files[each["name"]].size == each["size"] for each in row.files)


def _read(store: ObjectStore, kind: str, name: str, files: Files, now: float) -> StoredModel:
    """Return the row of a folder, its checksums computed. Raises InvalidValue with why it is none."""
    if not is_name(name):
        raise InvalidValue(f"its name {NAME_RULE}")
    if UNFINISHED in files:
        raise InvalidValue("it is being put there, or that was cut off; the next import of its name clears it")
    bucket = BUCKETS[kind]
    said = _index(store, bucket, name, files) if INDEX in files else {}
    content = [each for each in files if each != INDEX]
    row = StoredModel(type=kind, name=name, size=0, sha256="", created_at=now)
    row.base, row.source = str(said.get("base", ""))[:200], str(said.get("source", ""))[:500]
    alone = lone_file(content)
    if kind == CHECKPOINT and ENGINE_MANIFEST in files:
        manifest = _bytes(store, bucket, f"{name}/{ENGINE_MANIFEST}", 0, MAX_MANIFEST)
        judged = of_folder(name, manifest, {each: files[each].size for each in content})
        row.files = [_hashed(store, bucket, name, files[each], each) for each in judged.needed]
        digests = manifest_digests(manifest)
        for each in row.files:
            if digests.get(each["name"], each["sha256"]) != each["sha256"]:
                raise InvalidValue(f"the file {each['name']} is not the one that its {ENGINE_MANIFEST} tells of")
        row.native_size = judged.native_size
    elif alone is not None:
        size = files[alone].size
        header = check(lambda offset, count: _bytes(store, bucket, f"{name}/{alone}", offset, count), size)
        judged = of_safetensors(kind, header, row.base)
        row.base, row.note = judged.base, judged.note
        numbers = Finite(header) if kind == LORA else None
        row.files = [_hashed(store, bucket, name, files[alone], alone, numbers)]
        row.note = row.note or (numbers.note if numbers is not None else "")
    else:
        raise InvalidValue(f"it is neither one {SUFFIX} file nor, for a model, a folder with an engine's {ENGINE_MANIFEST}")
    row.size = sum(each["size"] for each in row.files)
    row.sha256 = digest_of(row.files)
    return row


def _index(store: ObjectStore, bucket: str, name: str, files: Files) -> dict[str, Any]:
    try:
        said = json.loads(_bytes(store, bucket, f"{name}/{INDEX}", 0, min(files[INDEX].size, MAX_MANIFEST)))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _bytes(store: ObjectStore, bucket: str, key: str, start: int, count: int) -> bytes:
    found = bytearray()
    with store.open(bucket, key, start) as chunks:
        for chunk in chunks:
            found += chunk
            if len(found) >= count:
                break
    return bytes(found[:count])


def _hashed(store: ObjectStore, bucket: str, name: str, there: StoredObject, file: str, numbers: Finite | None = None) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with store.open(bucket, f"{name}/{file}") as chunks:
        for chunk in chunks:
            digest.update(chunk)
            if numbers is not None:
                numbers.feed(chunk)
            size += len(chunk)
    if size != there.size:
        raise InvalidValue(f"the file {file} changed while it was read")
    return {"name": file, "size": size, "sha256": digest.hexdigest()}
