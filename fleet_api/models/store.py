"""The model store: what is in it, and how something gets in and out. The buckets are the truth, the table is their index."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from fleet_api.adapters.object_store.types import ObjectStore
from fleet_api.errors import Conflict, FleetError, NotFound
from fleet_api.kit.clock import Clock, rfc3339
from fleet_api.kit.db import Database
from fleet_api.models import repository
from fleet_api.models.judging import ENGINE_MANIFEST, of_safetensors
from fleet_api.models.kinds import BUCKETS, INDEX, UNFINISHED, WORDS, index_of
from fleet_api.models.models import StoredModel
from fleet_api.models.safetensors import Header
from fleet_api.storage.service import Storage

log = structlog.get_logger()

Key = tuple[str, str]
"""Type and name."""


@dataclass(frozen=True, slots=True)
class NewModel:
    """One file, checked, that is to go into the store."""

    kind: str
    name: str
    filename: str
    size: int
    sha256: str
    base: str
    source: str
    header: Header


class ModelStore:
    """One instance a process, used on the event loop only. ``own`` says whether the agents' own software has a name already."""

    def __init__(self, db: Database, clock: Clock, storage: Storage, own: Callable[[str, str], bool]) -> None:
        self._db = db
        self._clock = clock
        self._storage = storage
        self._own = own
        self._rows: dict[Key, StoredModel] = {}
        self._changing: set[Key] = set()
        self.on_change: Callable[[], None] = lambda: None

    async def load(self) -> None:
        """Read the index."""
        for row in await self._db.read(repository.every):
            self._rows[row.type, row.name] = row

    def find(self, kind: str, name: str) -> StoredModel | None:
        """Return what is stored under a name."""
        return self._rows.get((kind, name))

    def all(self, kind: str) -> list[StoredModel]:
        """Return every model, or every LoRA, by name."""
        return [row for key, row in sorted(self._rows.items()) if key[0] == kind]

    def rows(self) -> dict[Key, StoredModel]:
        """Return everything that is stored. The dictionary is the store's own."""
        return self._rows

    def refuse_taken(self, kind: str, name: str) -> None:
        """Raise Conflict for a name that is in use."""
        if (kind, name) in self._rows or (kind, name) in self._changing:
            raise Conflict(f"name: there is a {WORDS[kind]} {name!r} already; delete it first, or choose another name.")
        if self._own(kind, name):
            raise Conflict(f"name: a {WORDS[kind]} {name!r} came with the agents' own software; choose another name.")

    async def add(self, new: NewModel, staged: Path) -> StoredModel:
        """Put a checked file into the store and list it.

        Raises Conflict for a name that is in use, or whose folder in the bucket has other files already, and what the store raises.
        """
        self.refuse_taken(new.kind, new.name)
        judged = of_safetensors(new.kind, new.header, new.base)
        file = {"name": new.filename, "size": new.size, "sha256": new.sha256}
        row = StoredModel(
            type=new.kind, name=new.name, size=new.size, sha256=new.sha256, base=judged.base, source=new.source, note=judged.note,
            created_at=self._clock.now(), files=[file],
        )  # fmt: skip
        with self._alone(new.kind, new.name):
            store = await self._storage.models()
            await asyncio.to_thread(_put, store, row, staged)
            await self.keep(row)
        log.info("model_stored", type=row.type, name=row.name, size=row.size)
        return row

    async def add_folder(self, row: StoredModel, folder: Path) -> None:
        """Put a model of several files into the store, its manifest last, and list it.

        Raises Conflict for a name that is in use, and what the store raises; nothing of it is left in the store then. Cancelled, it ends
        once the file that is on its way is there and all are taken out again: until then the name is in use.
        """
        self.refuse_taken(row.type, row.name)
        stop = threading.Event()
        with self._alone(row.type, row.name):
            store = await self._storage.models()
            putting = asyncio.ensure_future(asyncio.to_thread(_put_folder, store, row, folder, stop))
            try:
                await asyncio.shield(putting)
            except asyncio.CancelledError:
                stop.set()
                await asyncio.wait([putting])
                if not putting.cancelled() and putting.exception() is None:
                    await asyncio.to_thread(_remove, store, row)
                raise
            await self.keep(row)
        log.info("model_stored", type=row.type, name=row.name, size=row.size)

    async def keep(self, row: StoredModel) -> None:
        """List what is in the buckets already."""
        await self._db.write(lambda db: repository.put(db, row))
        self._rows[row.type, row.name] = row
        self.on_change()

    async def forget(self, kind: str, name: str) -> None:
        """List something no longer."""
        await self._db.write(lambda db: repository.remove(db, kind, name))
        self._rows.pop((kind, name), None)
        self.on_change()

    async def delete(self, kind: str, name: str) -> None:
        """Delete from the store; nodes drop their copies at their next beat. Raises NotFound, Conflict and what the store raises."""
        row = self._rows.get((kind, name))
        if row is None:
            there = ", ".join(each.name for each in self.all(kind)) or "none"
            raise NotFound(f"There is no {WORDS[kind]} {name!r} in the store; there are: {there}.")
        if (kind, name) in self._changing:
            raise Conflict(f"The {WORDS[kind]} {name!r} is being changed by another request.")
        with self._alone(kind, name):
            store = await self._storage.models()
            await asyncio.to_thread(_remove, store, row)
            await self.forget(kind, name)
        log.info("model_deleted", type=kind, name=name)

    def changing(self, kind: str, name: str) -> bool:
        """Say whether somebody puts or deletes it just now."""
        return (kind, name) in self._changing

    async def place_of(self, kind: str, name: str, file: str) -> tuple[ObjectStore, str, str, int]:
        """Return store, bucket, key and size of one file. Raises NotFound."""
        row = self._rows.get((kind, name))
        found = next((each for each in row.files if each["name"] == file), None) if row is not None else None
        if found is None:
            raise NotFound(f"The store has no file {file!r} of a {WORDS.get(kind, 'model')} {name!r}.")
        return await self._storage.models(), BUCKETS[kind], f"{name}/{file}", int(found["size"])

    @contextmanager
    def _alone(self, kind: str, name: str) -> Iterator[None]:
        self._changing.add((kind, name))
        try:
            yield
        finally:
            self._changing.discard((kind, name))


def _put(store: ObjectStore, row: StoredModel, staged: Path) -> None:
    bucket = BUCKETS[row.type]
    store.make_bucket(bucket)
    [file] = row.files
    key = f"{row.name}/{file['name']}"
    there = _there(store, row, key)
    ours = {key, f"{row.name}/{INDEX}"} - there
    try:
        if key not in there:
            store.put(bucket, key, staged, file["sha256"])
        put_index(store, row)
    except BaseException:
        with suppress(FleetError):  # a store that is away keeps what a scan finds later
            for each in ours:
                store.remove(bucket, each)
        raise


class _Stopped(Exception):
    """The files are not wanted any more."""


def _put_folder(store: ObjectStore, row: StoredModel, folder: Path, stop: threading.Event) -> None:
    bucket = BUCKETS[row.type]
    store.make_bucket(bucket)
    clear_cut_off(store, row.type, row.name)
    stranger = next((each.key for each in store.list(bucket, f"{row.name}/") if not each.key.endswith("/")), None)
    if stranger is not None:
        raise Conflict(f"name: the bucket {bucket} has {stranger[:300]!r} already; take it out, or choose another name.")
    ordered = sorted(row.files, key=lambda each: (each["name"] == ENGINE_MANIFEST, each["name"]))
    mark = folder / UNFINISHED
    mark.write_bytes(b"A model is being put here; if the control plane ends meanwhile, the next import of its name clears this.\n")
    try:
        store.put(bucket, f"{row.name}/{UNFINISHED}", mark, hashlib.sha256(mark.read_bytes()).hexdigest())
        for each in ordered:
            if stop.is_set():
                raise _Stopped
            store.put(bucket, f"{row.name}/{each['name']}", folder / each["name"], each["sha256"])
        put_index(store, row)
        store.remove(bucket, f"{row.name}/{UNFINISHED}")
    except BaseException:
        with suppress(FleetError):  # a store that is away keeps it, and the next import of the name clears it
            _remove(store, row)
            store.remove(bucket, f"{row.name}/{UNFINISHED}")
        raise


def clear_cut_off(store: ObjectStore, kind: str, name: str) -> None:
    """Take out what an import of this name has left that was cut off, which its mark tells."""
    bucket = BUCKETS[kind]
    if store.head(bucket, f"{name}/{UNFINISHED}") is None:
        return
    for each in [each.key for each in store.list(bucket, f"{name}/") if each.key != f"{name}/{UNFINISHED}"]:
        store.remove(bucket, each)
    store.remove(bucket, f"{name}/{UNFINISHED}")


def _there(store: ObjectStore, row: StoredModel, key: str) -> set[str]:
    """Return what lies there of the model, these very bytes, as after a try that was cut off. Raises Conflict for all else."""
    bucket, [file] = BUCKETS[row.type], row.files
    found: set[str] = set()
    for each in store.list(bucket, f"{row.name}/"):
        same = each.key == key and each.size == file["size"] and _digest(store, bucket, key) == file["sha256"]
        if same or each.key == f"{row.name}/{INDEX}":
            found.add(each.key)
        elif not each.key.endswith("/"):  # which some programs make for a folder
            raise Conflict(f"name: the bucket {bucket} has {each.key[:300]!r} already; take it out, or choose another name.")
    return found


def _digest(store: ObjectStore, bucket: str, key: str) -> str:
    digest = hashlib.sha256()
    with store.open(bucket, key) as chunks:
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


def put_index(store: ObjectStore, row: StoredModel) -> None:
    """Write beside a model's files what they are."""
    text = index_of(row, rfc3339(row.created_at))
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        store.put(BUCKETS[row.type], f"{row.name}/{INDEX}", Path(file.name), hashlib.sha256(text).hexdigest())


def _remove(store: ObjectStore, row: StoredModel) -> None:
    bucket = BUCKETS[row.type]
    for file in row.files:
        store.remove(bucket, f"{row.name}/{file['name']}")
    store.remove(bucket, f"{row.name}/{INDEX}")
