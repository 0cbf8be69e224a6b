"""Engines of TensorRT in the store of models: what one node built, others of its kind fetch. An engine is its bytes and a record beside.

The bucket alone says what is there. The key is made of all that an engine depends on, so one that is found by it fits; nobody can put
another in its place, as the first to bring it is the only one who may.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from fleet_api.adapters.object_store.types import BucketMissing, ObjectStore, StoredObject
from fleet_api.engines.schemas import EngineLora, EngineView
from fleet_api.errors import InvalidValue, NotFound, Unavailable
from fleet_api.kit.clock import Clock, rfc3339
from fleet_api.kit.fields import clean_json
from fleet_api.storage.buckets import MODELS
from fleet_api.storage.service import Storage
from gpu_inference.protocol_engines import ENGINE_KEY, EngineOffer, OfferReply, engine_key

log = structlog.get_logger()

PREFIX = "_engines/tensorrt/"
"""Two folders deep, where the scan of models does not look."""

RECORD_BYTES = 64 * 1024
RESERVE_BYTES = 256 * 1024 * 1024
"""So much of the control plane's disk is left free."""

MOST_ENGINES = 500
"""So many are kept, however small: a list of them reads each record."""

MOST_OFFERS = 1000
"""So many are remembered; who gave nothing after so many others offers again."""

_PLAN, _RECORD = ".plan", ".json"
_TOLD = ("model", "network", "architecture", "tensorrt", "precision")


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine's bytes, on their way."""

    chunks: AbstractContextManager[Any]
    size: int
    sha256: str


class EngineShelf:
    """One instance a process, used on the event loop only. ``limit`` is in bytes; 0 keeps none."""

    def __init__(self, folder: Path, clock: Clock, storage: Storage, limit: int) -> None:
        self._folder = folder
        self._clock = clock
        self._storage = storage
        self._offers: dict[tuple[str, str], EngineOffer] = {}
        self._changing = asyncio.Lock()
        self._coming = 0
        self.limit = limit

    def sweep(self) -> None:
        """Remove what a run that was killed has left."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def offer(self, node_id: str, offer: EngineOffer) -> OfferReply:
        """Say whether an engine is wanted. Raises InvalidValue for one whose key does not fit, and what the store raises."""
        said = offer.said
        try:
            clean_json(said)
        except ValueError as error:
            raise InvalidValue(f"said {error}.") from None
        if engine_key(said) != offer.key:
            raise InvalidValue("key: it does not fit what the engine depends on.")
        if (
            not all(isinstance(said.get(name), str) and 0 < len(said[name]) <= 200 for name in _TOLD)
            or len(json.dumps(said)) > RECORD_BYTES
        ):
            raise InvalidValue(f"said: it must tell {', '.join(_TOLD)}, in words of 200 characters at most.")
        if offer.size > self.limit:
            return OfferReply(reason=f"The store keeps {self.limit:,} bytes of engines (FLEET_ENGINE_STORE_LIMIT).")
        store = await self._storage.models()
        if await asyncio.to_thread(_head, store, offer.key + _RECORD):
            return OfferReply(reason="It is there already.")
        self._offers[node_id, offer.key] = offer
        while len(self._offers) > MOST_OFFERS:
            del self._offers[next(iter(self._offers))]
        return OfferReply(wanted=True)

    async def take(self, node_id: str, key: str, chunks: AsyncIterator[bytes], sha256: str) -> None:
        """Keep an engine's bytes; what is oldest makes room.

        Raises:
            NotFound: it was not offered, or not by this node.
            InvalidValue: what comes is not what was offered.
            Unavailable: the disk is full, and what the store raises.
        """
        offer = self._offers.get((node_id, key))
        if offer is None:
            raise NotFound(f"No engine {key[:64]!r} was offered by this node; offer it first.")
        if sha256 != offer.sha256:
            raise InvalidValue("X-Content-SHA256 is not that of the engine that was offered.")
        part = self._folder / f"{key}.{secrets.token_hex(4)}.part"
        try:
            await self._receive(part, offer, chunks)
            async with self._changing:
                store = await self._storage.models()
                if not await asyncio.to_thread(_head, store, key + _RECORD):
                    await asyncio.to_thread(self._put, store, part, offer, node_id)
                    log.info(
                        "engine_kept", key=key, model=offer.said["model"], network=offer.said["network"], node_id=node_id, size=offer.size
                    )
        except OSError as error:
            raise Unavailable(f"The engine cannot be kept: {error.strerror or error}.") from error
        finally:
            part.unlink(missing_ok=True)
        self._offers.pop((node_id, key), None)

    async def open(self, key: str) -> Opened:
        """Return an engine's bytes. Raises NotFound, and what the store raises."""
        store = await self._storage.models()
        record = await asyncio.to_thread(_record, store, key) if _is_key(key) else None
        if record is None:
            raise NotFound(f"There is no engine {key[:64]!r} in the store.")
        return Opened(store.open(MODELS, PREFIX + key + _PLAN), int(record["size"]), str(record["sha256"]))

    async def all(self, loras: Mapping[str, str]) -> list[EngineView]:
        """Return what is there, by model and network. ``loras`` are names by the SHA-256 of files. Raises what the store raises."""
        store = await self._storage.models()
        found = await asyncio.to_thread(_records, store)
        return sorted((_view(record, loras) for record in found), key=lambda each: (each.model, each.network, each.architecture, each.key))

    async def remove(self, key: str) -> None:
        """Delete an engine from the store; nodes keep theirs. Raises NotFound, and what the store raises."""
        store = await self._storage.models()
        if not _is_key(key) or not await asyncio.to_thread(_head, store, key + _RECORD):
            raise NotFound(f"There is no engine {key[:64]!r} in the store; 'fleet engines' lists them.")
        async with self._changing:
            await asyncio.to_thread(_remove, store, key)

    async def _receive(self, part: Path, offer: EngineOffer, chunks: AsyncIterator[bytes]) -> None:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(self._folder).free - self._coming
        if offer.size + RESERVE_BYTES > free:
            raise Unavailable(f"The disk of {self._folder} has {free:,} bytes free, and the engine has {offer.size:,}.")
        digest, size = hashlib.sha256(), 0
        self._coming += offer.size
        try:
            with part.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > offer.size:
                        break
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
        finally:
            self._coming -= offer.size
        if size != offer.size or digest.hexdigest() != offer.sha256:
            raise InvalidValue("What came is not the engine that was offered; send it again.")

    def _put(self, store: ObjectStore, part: Path, offer: EngineOffer, node_id: str) -> None:
        store.make_bucket(MODELS)
        self._make_room(store, offer.size)
        said = {**offer.said, "key": offer.key, "size": offer.size, "sha256": offer.sha256}
        record = json.dumps({**said, "node_id": node_id, "created_at": rfc3339(self._clock.now())}, indent=2).encode()
        beside = part.with_suffix(".record")
        try:
            beside.write_bytes(record)
            store.put(MODELS, PREFIX + offer.key + _PLAN, part, offer.sha256)
            store.put(MODELS, PREFIX + offer.key + _RECORD, beside, hashlib.sha256(record).hexdigest())
        finally:
            beside.unlink(missing_ok=True)

    def _make_room(self, store: ObjectStore, size: int) -> None:
        there = sorted((each for each in _listed(store) if each.key.endswith(_PLAN)), key=lambda each: each.modified)
        held, count = sum(each.size for each in there), len(there)
        for each in there:
            if held + size <= self.limit and count < MOST_ENGINES:
                return
            count -= 1
            _remove(store, each.key.removeprefix(PREFIX).removesuffix(_PLAN))
            held -= each.size


def _is_key(key: str) -> bool:
    return re.fullmatch(ENGINE_KEY, key) is not None


def _listed(store: ObjectStore) -> list[StoredObject]:
    try:
        return list(store.list(MODELS, PREFIX))
    except BucketMissing:
        return []


def _head(store: ObjectStore, name: str) -> bool:
    try:
        return store.head(MODELS, PREFIX + name) is not None
    except BucketMissing:
        return False


def _record(store: ObjectStore, key: str) -> dict[str, Any] | None:
    """Return what is said of an engine; None where that is not there, or is not ours."""
    with suppress(NotFound, BucketMissing, ValueError, KeyError, TypeError):
        with store.open(MODELS, PREFIX + key + _RECORD) as chunks:
            found: dict[str, Any] = json.loads(b"".join(chunks))
        if all(found[name] for name in (*_TOLD, "size", "sha256", "created_at")):
            return found
    return None


def _records(store: ObjectStore) -> list[dict[str, Any]]:
    keys = [each.key.removeprefix(PREFIX).removesuffix(_RECORD) for each in _listed(store) if each.key.endswith(_RECORD)]
    return [record for key in keys if (record := _record(store, key)) is not None]


def _remove(store: ObjectStore, key: str) -> None:
    store.remove(MODELS, PREFIX + key + _RECORD)  # first: what has no record is not there
    store.remove(MODELS, PREFIX + key + _PLAN)


def _loras(record: dict[str, Any], names: Mapping[str, str]) -> list[EngineLora]:
    """Return what a record says of LoRAs, ``[[sha256, strength], ...]``. A node wrote it: what is something else is left out."""
    said = record.get("loras")
    pairs = [each for each in (said if isinstance(said, list) else []) if isinstance(each, list) and len(each) == 2]
    return [
        EngineLora(sha256=sha256, strength=strength, name=names.get(sha256))
        for sha256, strength in pairs
        if isinstance(sha256, str) and isinstance(strength, int | float) and -4 <= strength <= 4
    ]


def _view(record: dict[str, Any], loras: Mapping[str, str]) -> EngineView:
    told = {name: record[name] for name in (*_TOLD, "key", "sha256", "created_at")}
    return EngineView(**told, loras=_loras(record, loras), size_bytes=int(record["size"]), node_id=str(record.get("node_id", "")))
