"""Imports a stored checkpoint of one file as a model that nodes run: an operation on the manager, in a child process of its own.

The checkpoint is copied out of the store, ``fleet-worker import`` makes a model folder of it, and that goes into the store under its
own name, the manifest last. A failure or a cancel leaves nothing; what a control plane that was killed has left is listed nowhere, and the
next import of its name clears it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from fleet_api.errors import Conflict, FleetError, InvalidValue
from fleet_api.kit import process
from fleet_api.kit.clock import Clock
from fleet_api.models.judging import ENGINE_MANIFEST, of_folder
from fleet_api.models.kinds import CHECKPOINT, NAME_RULE, SUFFIX, digest_of, is_name
from fleet_api.models.models import StoredModel
from fleet_api.models.schemas import ImportBody
from fleet_api.models.store import ModelStore
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import OperationFailed, Work
from fleet_api.storage.service import Storage

KIND = "model_import"
ROOM = {"fp16": 3.5, "fp32": 5.5}
"""So many times the checkpoint's bytes are wanted free: its copy, the model folder, and the store's copy of that where it is on this disk.

Checkpoints are mostly of 16 bits a number.
"""

GRACE_SECONDS = 3.0
_COPIED, _CONVERTED = 20.0, 70.0
"""Percent done once the checkpoint is here, and once it is converted."""


class ModelImports:
    """One instance a process; the kind ``model_import``."""

    name = KIND
    waits_only = False

    def __init__(self, folder: Path, clock: Clock, storage: Storage, models: ModelStore, operations: OperationService) -> None:
        self._folder = folder
        self._clock = clock
        self._storage = storage
        self._models = models
        self._operations = operations
        self._one = asyncio.Lock()
        operations.kinds.add(self)

    def sweep(self) -> None:
        """Remove what a run that was killed has left."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def start(self, source: str, body: ImportBody, caller: str) -> Operation:
        """Queue an import. Raises NotFound, Conflict for a name that is taken, InvalidValue."""
        row = self._models.find(CHECKPOINT, source)
        if row is not None and (len(row.files) != 1 or not row.files[0]["name"].lower().endswith(SUFFIX)):
            raise Conflict(f"The model {source!r} is imported already: nodes run it as it is.")
        await self._models.place_of(CHECKPOINT, source, row.files[0]["name"] if row is not None else SUFFIX)
        if not is_name(body.name):
            raise InvalidValue(f"name: it {NAME_RULE}.")
        self._models.refuse_taken(CHECKPOINT, body.name)
        return await self._operations.submit(KIND, {"source": source, **body.model_dump()}, caller=caller)

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`fleet_api.operations.kinds.Kind`."""
        return f"Import {request['source']} as {request['name']}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`fleet_api.operations.kinds.Kind`."""
        return []

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`fleet_api.operations.kinds.Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`fleet_api.operations.kinds.Kind`."""
        folder = self._folder / work.id
        stop = threading.Event()
        try:
            work.step("waiting for another import", 0.0)
            async with self._one:  # each wants much of the disk
                await self._run(work, folder, stop)
        except FleetError as error:
            raise work.failed(error) from error
        except OSError as error:
            raise OperationFailed(f"The model could not be written ({error.strerror}); check the disk of the control plane.") from error
        finally:
            stop.set()
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, True))

    async def _run(self, work: Work, folder: Path, stop: threading.Event) -> None:
        request = work.request
        row = self._models.find(CHECKPOINT, request["source"])
        if row is None:
            raise OperationFailed(f"The model {request['source']!r} is not in the store any more.")
        checkpoint = folder / row.files[0]["name"]
        work.step("copying", 1.0)
        await asyncio.to_thread(_make_room, folder, row.size * ROOM[request["precision"]])
        store, bucket, key, _ = await self._models.place_of(CHECKPOINT, row.name, checkpoint.name)
        await asyncio.to_thread(_copy, store, bucket, key, checkpoint, row.files[0]["sha256"], stop)
        work.step("converting", _COPIED)
        await _convert(work, checkpoint, folder / "model", request)
        made = _row_of(request["name"], folder / "model", row, self._clock.now())
        work.step("storing", _CONVERTED)
        await self._models.add_folder(made, folder / "model")
        work.result.update({"name": made.name, "size": made.size, "sha256": made.sha256})
        if not request["keep_source"]:
            await self._forget(work, row)
        work.tell("done", f"{made.name}: {made.size:,} bytes; nodes fetch it when it is asked for.")

    async def _forget(self, work: Work, row: StoredModel) -> None:
        """Delete the checkpoint, unless another one has its name by now; the model is there whatever comes of it."""
        if self._models.find(CHECKPOINT, row.name) is not row:
            return
        try:
            await self._models.delete(CHECKPOINT, row.name)
        except FleetError as error:
            work.tell("note", f"The checkpoint {row.name} stays in the store: {error.detail}")


def _make_room(folder: Path, needed: float) -> None:
    folder.mkdir(parents=True, mode=0o700)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OperationFailed(f"Importing needs {needed / 2**30:.1f} GiB of the control plane's disk, and {free / 2**30:.1f} GiB are free.")


def _copy(store: Any, bucket: str, key: str, target: Path, sha256: str, stop: threading.Event) -> None:
    digest = hashlib.sha256()
    with store.open(bucket, key) as chunks, target.open("wb") as file:
        for chunk in chunks:
            if stop.is_set():
                return
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise OperationFailed(f"The file {key} in the store is not the one that was uploaded: its SHA-256 differs. Upload it again.")


def _command(checkpoint: Path, target: Path, request: dict[str, Any]) -> list[str]:
    words = [sys.executable, "-m", "gpu_inference", "import", str(checkpoint), "--out", str(target), "--name", request["name"], "--lines"]
    words += ["--precision", request["precision"]]
    if request["zero_terminal_snr"]:
        words.append("--zero-terminal-snr")
    for option in ("prediction", "steps", "native_size", "license"):
        if request[option]:
            words.append(f"--{option.replace('_', '-')}={request[option]}")
    return [*words, *(["--vae-fp16-safe"] if request["vae_fp16_safe"] else [])]


async def _convert(work: Work, checkpoint: Path, target: Path, request: dict[str, Any]) -> None:
    child = await process.spawn(_command(checkpoint, target, request), {})
    last = ""
    try:
        assert child.stdout is not None
        async for line in child.stdout:
            text = line.decode("utf-8", "replace").strip()
            try:
                said = json.loads(text)
                done, total, what = int(said["done"]), int(said["all"]), str(said["what"])
            except (ValueError, KeyError, TypeError):
                last = text or last
            else:
                work.step(f"converting {what}", _COPIED + (_CONVERTED - _COPIED) * done / max(1, total))
        await child.wait()
    finally:
        await asyncio.shield(process.stop(child, GRACE_SECONDS))
    if child.returncode:
        reason = last[:500] or "no reason was given"
        raise OperationFailed(reason if child.returncode > 0 else f"The import was ended by signal {-child.returncode}: {reason}")


def _row_of(name: str, folder: Path, source: StoredModel, now: float) -> StoredModel:
    manifest = (folder / ENGINE_MANIFEST).read_bytes()
    digests = {**json.loads(manifest)["sha256"], ENGINE_MANIFEST: hashlib.sha256(manifest).hexdigest()}
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    judged = of_folder(name, manifest, sizes)
    files = [{"name": each, "size": sizes[each], "sha256": digests[each]} for each in judged.needed]
    row = StoredModel(
        type=CHECKPOINT, name=name, size=sum(sizes[each] for each in judged.needed), sha256=digest_of(files), base="",
        source=(source.source or f"imported from {source.name}")[:500], note="", created_at=now, files=files,
    )  # fmt: skip
    row.native_size = judged.native_size
    return row
