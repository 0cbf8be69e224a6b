"""Copies outputs to the bucket, and takes local files away that are proved to be there.

A copy is sent with its checksum, and noted when the store has taken it; a local file goes only after every byte of the copy was read
back. Whatever is cut off in between is done again: sending twice, proving twice and deleting twice are harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from fleet_api.adapters.object_store.types import ObjectDiffers, ObjectMissing, ObjectStore, Shown
from fleet_api.adapters.object_store.verified import digests, verify
from fleet_api.errors import Conflict, FleetError, InvalidValue, Unavailable
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.media import CACHED, is_picture, media_type
from fleet_api.outputs.models import Output
from fleet_api.outputs.service import CACHE_BYTES
from fleet_api.outputs.sync import repository as places
from fleet_api.outputs.sync.adopting import Adopting
from fleet_api.outputs.sync.reports import Cleaned, Moved, Progress, Synced
from fleet_api.storage.buckets import OUTPUTS
from fleet_api.storage.service import Storage

log = structlog.get_logger()

BATCH = 512
TRANSFERS = 8
"""At once: enough to fill a gigabit with pictures of 1 MB, and what rclone would take with ``--transfers 8``."""

T = TypeVar("T")


@dataclass(slots=True)
class _Results:
    done: list[Output] = field(default_factory=list)
    wrong: list[Output] = field(default_factory=list)
    stopped: str | None = None


class OutputSync:
    """One instance a process. One sync and one cleanup at a time; who asks for a sync while one runs is told of that one."""

    def __init__(self, db: Database, clock: Clock, files: OutputFiles, storage: Storage) -> None:
        self._db = db
        self._clock = clock
        self._files = files
        self._storage = storage
        self._adopting = Adopting(db, clock, files)
        self._running: asyncio.Task[Synced] | None = None
        self._cleaning = asyncio.Lock()
        self._threads = ThreadPoolExecutor(TRANSFERS, thread_name_prefix="outputs")
        self.progress: Progress | None = None
        self.last: float | None = None
        self.trouble: str | None = None

    async def sync(self) -> Synced:
        """Send what the bucket lacks. Raises StorageUnset, and Unavailable where nothing could be sent."""
        if self._running is None:
            self._running = asyncio.create_task(self._sync())
            self._running.add_done_callback(self._ended)
        return await asyncio.shield(self._running)  # a caller who goes away does not end it for the others

    async def cleanup(self, max_age_hours: float, dry_run: bool = False) -> Cleaned:
        """Delete local files older than that whose copies are proved. Raises StorageUnset and Unavailable."""
        store = await self._storage.s3()
        before = self._clock.now() - max_age_hours * 3600
        kept = await self._db.read(lambda db: places.count_unsynced(db, before))
        ready = await self._db.read(lambda db: places.count_removable(db, before))
        if dry_run:
            return Cleaned(True, ready.count, ready.bytes, kept.count)
        if self._cleaning.locked():
            raise Conflict("A cleanup is running; GET /api/outputs/stats tells how far it is.")
        async with self._cleaning:
            self.progress = Progress("cleanup", ready.count)
            try:
                return await self._cleanup(store, before, Cleaned(False, kept_unsynced=kept.count))
            finally:
                self.progress = None

    async def move_all(self) -> Moved:
        """Send everything, then delete every local file whose copy is proved."""
        synced = await self.sync()
        return Moved(synced, await self.cleanup(0))

    async def close(self) -> None:
        """End what is running; what it has done stays."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _sync(self) -> Synced:
        store = await self._storage.s3()
        report = Synced(skipped=(await self._db.read(places.places)).synced.count)
        report.adopted = await self._adopting.from_folder()
        self.progress = Progress("sync", (await self._db.read(places.count_unsynced)).count)
        after = 0
        while rows := await self._db.read(partial(places.unsynced, after=after, limit=BATCH)):
            after = rows[-1].seq or after
            found = await self._each(rows, lambda each: _send(store, self._files.path(each.key), each))
            gone = await self._db.write(partial(places.set_synced, found=found.done, when=self._clock.now()))
            for each in gone:  # deleted while it was sent
                with contextlib.suppress(FleetError):
                    await asyncio.to_thread(store.remove, OUTPUTS, each.key)
            report.adopted += await self._adopting.again(found.wrong)
            report.uploaded += len(found.done)
            report.bytes += sum(each.bytes for each in found.done)
            report.failed += len(found.wrong)
            if found.stopped:
                break
        else:
            found = _Results()
            try:
                report.adopted += await self._adopting.from_bucket(store)
            except FleetError as error:
                found.stopped = error.detail
        report.detail, self.trouble = found.stopped, found.stopped
        if found.stopped and not report.uploaded:
            raise Unavailable(f"Nothing was sent: {found.stopped}")
        self.last = self._clock.now()
        return report

    async def _cleanup(self, store: ObjectStore, before: float, report: Cleaned) -> Cleaned:
        after = 0
        while rows := await self._db.read(partial(places.removable, before=before, after=after, limit=BATCH)):
            after = rows[-1].seq or after
            found = await self._each(rows, lambda each: self._prove_and_delete(store, each))
            await self._db.write(partial(places.set_away, found=found.done))
            await self._db.write(partial(places.set_synced, found=found.wrong, when=None))
            report.deleted += len(found.done)
            report.freed_bytes += sum(each.bytes for each in found.done)
            report.kept_unsynced += len(found.wrong)
            if found.stopped:
                report.detail = found.stopped
                if not report.deleted:
                    raise Unavailable(f"Nothing was deleted: {found.stopped}")
                break
        await asyncio.to_thread(self._files.trim_cache, CACHE_BYTES)
        return report

    def _prove_and_delete(self, store: ObjectStore, output: Output) -> None:
        path = self._files.path(output.key)
        verify(store, OUTPUTS, output.key, output.bytes, output.sha256)
        if not output.job_id and path.exists() and digests(path)[1] != output.sha256:
            raise ObjectDiffers(f"{output.key} was written anew by its program, and the copy is of what it was.")
        if path.exists() and is_picture(output.key):
            try:
                self._files.thumbnail(output.filename, path)
            except Exception:  # Pillow raises many kinds for damaged files
                log.warning("output_without_thumbnail", file=output.filename)
        path.unlink(missing_ok=True)

    async def _each(self, rows: list[Output], work: Callable[[Output], T]) -> _Results:
        """Do it to each, in threads. What is wrong with one is noted; what is wrong with the store ends it after those under way."""
        results = _Results()
        loop, progress = asyncio.get_running_loop(), self.progress

        def guarded(each: Output) -> None:
            if results.stopped is not None:
                return
            try:
                work(each)
            except (ObjectDiffers, ObjectMissing, InvalidValue, OSError) as error:
                log.warning("output_not_copied", file=each.filename, why=str(error))
                results.wrong.append(each)
            except FleetError as error:
                results.stopped = error.detail
            else:
                results.done.append(each)
            if progress is not None:
                progress.ended.append(each.seq or 0)

        await asyncio.gather(*(loop.run_in_executor(self._threads, guarded, each) for each in rows))
        return results

    def _ended(self, task: asyncio.Task[Synced]) -> None:
        self._running = self.progress = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.trouble = error.detail if isinstance(error, FleetError) else "It failed; the log says more."


def _send(store: ObjectStore, path: Path, output: Output) -> None:
    kind = media_type(output.key) or "application/octet-stream"
    store.put(OUTPUTS, output.key, path, output.sha256, Shown(kind, f'inline; filename="{output.filename}"', f"public, {CACHED}"))
