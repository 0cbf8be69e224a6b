"""Outputs: from a staged upload to a row and a file, into the bin and out of it, and back to nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection

from fleet_api.adapters.object_store.types import ObjectDiffers, ObjectMissing
from fleet_api.adapters.object_store.verified import fetch
from fleet_api.errors import FleetError, InvalidValue, NotFound, Unavailable
from fleet_api.jobs import repository as jobs_repository
from fleet_api.jobs.models import Job
from fleet_api.jobs.states import JobState
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.kit.validation import sentence
from fleet_api.outputs import repository
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.media import is_picture
from fleet_api.outputs.models import Output
from fleet_api.outputs.search import repository as search
from fleet_api.outputs.search.repository import Page, Wanted
from fleet_api.outputs.sync import repository as places
from fleet_api.outputs.sync.repository import Places
from fleet_api.storage.buckets import OUTPUTS
from fleet_api.storage.service import Storage, StorageUnset
from gpu_inference.protocol import Complete, ImageResult

log = structlog.get_logger()

BIN_SECONDS = 86_400.0
"""How long a deleted output can be had back."""

CACHE_BYTES = 2 * 1024**3
"""Copies of files that only the bucket has."""

_BATCH = 100


class OutputService:
    """One instance a process."""

    def __init__(self, db: Database, clock: Clock, files: OutputFiles, storage: Storage) -> None:
        self._db = db
        self._clock = clock
        self._files = files
        self._storage = storage
        self._coming: dict[str, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Make the folders and remove what a crash left behind; a file that might be somebody's is left alone."""
        await asyncio.to_thread(self._files.prepare)
        jobs = await self._db.read(lambda db: jobs_repository.in_state(db, JobState.PROCESSING))
        await asyncio.to_thread(self._files.sweep_staging, {(job.id, job.attempt) for job in jobs})
        known = await self._db.read(repository.keys)
        orphans = {job_id: path for job_id, path in self._files.own_files().items() if path.name not in known}
        states = await self._db.read(lambda db: jobs_repository.states_of(db, list(orphans)))
        for job_id, path in orphans.items():
            if job_id in states and states[job_id] != JobState.COMPLETED:
                # its attempt crashed between the file and the row, and is made again; or an older database was restored
                await asyncio.to_thread(self._files.put_aside, path)
            else:
                log.warning("output_without_a_row", file=path.name)  # a restored backup, or another's file: never ours to delete

    async def stage(self, job_id: str, attempt: int, chunks: AsyncIterator[bytes], sha256: str) -> int:
        """Store an agent's upload until its completion comes; return its bytes."""
        return await self._files.stage(job_id, attempt, chunks, sha256)

    def staged(self, job_id: str, attempt: int) -> Path | None:
        """Return the staged upload of an attempt."""
        return self._files.staged(job_id, attempt)

    def drop_staged(self, job_id: str, attempt: int) -> None:
        """Forget an upload."""
        self._files.drop_staged(job_id, attempt)

    def describe(self, staged: Path, job: Job, node_id: str, word: Complete, now: float) -> Output:
        """Check a staged file (blocking) and return its row, not yet stored. Raises InvalidValue and Conflict."""
        size = self._files.check(staged, word.sha256)
        said = image_result(word)
        filename = f"image_{job.id}.png"
        return Output(
            filename=filename, key=filename, job_id=job.id, node_id=node_id, prompt=str(job.payload.get("prompt", "")),
            model=said.model, lora=str(job.payload.get("lora") or ""), seed=said.seed,
            width=said.width, height=said.height, bytes=size, sha256=word.sha256, created_at=now, seconds=said.generation_time,
            parameters={**job.payload, **said.model_dump()},
        )  # fmt: skip

    def publish(self, staged: Path, output: Output) -> None:
        """Put the file in place (blocking), durably."""
        self._files.publish(staged, output.filename)

    def record(self, db: Connection, output: Output) -> None:
        """Inside a write: store the row."""
        repository.add(db, output)

    async def page(self, wanted: Wanted, limit: int, offset: int = 0, cursor: int | None = None) -> Page:
        """Return a page, newest first, and the number of all."""
        return await self._db.read(lambda db: search.page(db, wanted, limit, offset, cursor))

    async def places(self) -> Places:
        """Return what is where."""
        return await self._db.read(places.places)

    async def get(self, filename: str) -> Output:
        """Return an output that is not in the bin. Raises InvalidValue and NotFound."""
        return await self._row(filename, in_bin=False)

    async def find(self, filename: str) -> Path:
        """Return the path of a file, brought from the bucket if it must be. Raises InvalidValue, NotFound and Unavailable."""
        return await self._file(await self._row(filename, in_bin=False))

    async def some(self, names: list[str]) -> list[Output]:
        """Return these outputs, in this order. Raises InvalidValue and NotFound for the first that is not there."""
        for name in names:
            self._files.check_name(name)
        found = {each.filename: each for each in await self._db.read(lambda db: repository.some(db, names))}
        missing = next((name for name in names if name not in found), None)
        if missing is not None:
            raise NotFound(f"There is no output {missing!r}.")
        return [found[name] for name in dict.fromkeys(names)]

    async def file(self, output: Output) -> Path:
        """Return the path of an output's file. Raises NotFound and Unavailable."""
        return await self._file(output)

    async def thumbnail(self, filename: str) -> Path:
        """Return the path of a thumbnail, also of what is in the bin, made at the first call. Raises InvalidValue and NotFound."""
        row = await self._row(filename, in_bin=None)
        if not is_picture(row.filename):
            raise NotFound(f"{filename!r} is a video, and has no thumbnail.")
        try:
            made = await asyncio.to_thread(self._files.thumbnail, filename, None)
            made = made or await asyncio.to_thread(self._files.thumbnail, filename, await self._file(row))
        except FleetError:
            raise
        except Exception as error:  # Pillow raises many kinds for damaged files
            raise NotFound(f"There is no thumbnail of {filename!r}: the file is gone or damaged.") from error
        assert made is not None
        return made

    async def star(self, filename: str, starred: bool) -> None:
        """Mark an output, or take its mark. Raises InvalidValue and NotFound."""
        await self._change(filename, False, f"There is no output {filename!r}.", starred=starred)

    async def delete(self, filename: str, at_once: bool = False) -> None:
        """Put an output into the bin, from which it goes after :data:`BIN_SECONDS`; or delete it at once. Raises InvalidValue, NotFound."""
        row = await self._row(filename, in_bin=None if at_once else False)
        await self._db.write(partial(repository.change, filename=filename, in_bin=False, deleted_at=self._clock.now()))
        if at_once and not await self._destroy([row]):
            raise Unavailable(f"{filename!r} is in the bin; its copy in the S3 store, which does not answer, goes with the next round.")

    async def restore(self, filename: str) -> None:
        """Take an output out of the bin. Raises InvalidValue and NotFound."""
        await self._change(filename, True, f"There is no {filename!r} in the bin.", deleted_at=None)

    async def clear(self) -> int:
        """Put every output into the bin; return how many there were."""
        return await self._db.write(lambda db: repository.bin_all(db, self._clock.now()))

    async def empty_bin(self, age: float = BIN_SECONDS) -> int:
        """Delete what has been in the bin for so many seconds, everywhere; return how many. What the store does not let go stays."""
        total = 0
        while rows := await self._db.read(partial(repository.binned, before=self._clock.now() - age, limit=_BATCH)):
            gone = await self._destroy(rows)
            total += gone
            if gone < len(rows):
                break
        return total

    async def _destroy(self, rows: list[Output]) -> int:
        """Delete files and copies, then rows. A copy is looked for whether it was noted or not: a sync may have been cut off before."""
        done: list[Output] = []
        for row in rows:
            if not await self._db.write(partial(repository.claim, output=row)):
                continue  # taken out of the bin
            try:
                with contextlib.suppress(StorageUnset):
                    store = await self._storage.s3()
                    await self._storage.run(store.remove, OUTPUTS, row.key)
                await asyncio.to_thread(self._files.remove, row.filename, row.key)
            except (Unavailable, OSError) as error:
                log.warning("output_not_destroyed", file=row.filename, why=str(error))
                break
            done.append(row)
        await self._db.write(lambda db: repository.remove(db, done))
        return len(done)

    async def _row(self, filename: str, in_bin: bool | None) -> Output:
        self._files.check_name(filename)
        row = await self._db.read(lambda db: repository.get(db, filename))
        if row is None or (in_bin is not None and (row.deleted_at is not None) != in_bin):
            raise NotFound(f"There is no output {filename!r}.")
        return row

    async def _change(self, filename: str, in_bin: bool, missing: str, **values: object) -> None:
        self._files.check_name(filename)
        if not await self._db.write(lambda db: repository.change(db, filename, in_bin, **values)):
            raise NotFound(missing)

    async def _file(self, row: Output) -> Path:
        path = self._files.path(row.key)
        if await asyncio.to_thread(path.exists):
            return path
        cached = self._files.cached(row.filename)
        if row.synced_at is None:
            raise NotFound(f"There is no output {row.filename!r}.")
        if not await asyncio.to_thread(cached.exists):
            coming = self._coming.get(row.filename)
            if coming is None:
                coming = self._coming[row.filename] = asyncio.create_task(self._bring(row, cached))
                coming.add_done_callback(lambda _: self._coming.pop(row.filename, None))
            await asyncio.shield(coming)
        return cached

    async def _bring(self, row: Output, cached: Path) -> None:
        try:
            if not await asyncio.to_thread(self._files.room, row.bytes):
                raise Unavailable("The output is in the S3 store, and this machine's disk has no room for a copy to show.")
            store = await self._storage.s3()
            await self._storage.run(fetch, store, OUTPUTS, row.key, cached, row.bytes, row.sha256)
            await asyncio.to_thread(self._files.trim_cache, CACHE_BYTES)
        except (ObjectMissing, ObjectDiffers, StorageUnset) as error:
            raise NotFound(f"The file of {row.filename!r} is not where it was stored: {error.detail}") from error
        except OSError as error:
            raise Unavailable(f"The output cannot be brought from the S3 store: {error.strerror or error}.") from error


def image_result(word: Complete) -> ImageResult:
    """Return what the agent says of a picture. Raises InvalidValue where it is not what the protocol has."""
    try:
        return ImageResult.model_validate(word.result)
    except ValidationError as error:
        raise InvalidValue("result." + sentence(error.errors(include_url=False), ImageResult.model_fields)) from None
