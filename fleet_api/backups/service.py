"""Backups as the running control plane makes them: operations, by a caller or by the clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from fleet_api.adapters.object_store.types import ObjectStore
from fleet_api.backups import restoring, targets
from fleet_api.backups.aside import aside
from fleet_api.backups.making import Backups
from fleet_api.backups.manifest import Noted, check_id
from fleet_api.backups.targets import FolderTarget, StoreTarget, Target
from fleet_api.errors import FleetError
from fleet_api.kit.clock import Clock
from fleet_api.operations.models import Operation
from fleet_api.operations.schedule import ScheduledJob
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import OperationFailed, Work
from fleet_api.settings import Settings

T = TypeVar("T")
log = structlog.get_logger()

BACKUP, VERIFY, RESTORE = "backup", "backup_verify", "backup_restore"
FOLDER = "backups"
PATIENCE_SECONDS = 5.0
"""So long a cancelled operation may clean up."""

CALLER = "schedule"
TITLES = {BACKUP: "Make a backup", VERIFY: "Verify the backup", RESTORE: "Make ready to restore the backup"}


class Stores(Protocol):
    """Who knows the fleet's S3 store."""

    async def s3(self) -> ObjectStore:
        """Return it. Raises Unavailable."""
        ...


class Stopped(Exception):
    """The operation was cancelled."""


async def target_of(settings: Settings, stores: Stores) -> Target:
    """Return where backups are kept. Raises Unavailable where that is an S3 store and there is none."""
    text = settings.backup_target
    if text is None:
        return FolderTarget(settings.home / FOLDER)
    if text.startswith("s3://"):
        return StoreTarget(await stores.s3(), *targets.split(text))
    return FolderTarget(Path(text))


class BackupService:
    """One instance a process; the kinds ``backup``, ``backup_verify`` and ``backup_restore``."""

    def __init__(self, settings: Settings, clock: Clock, stores: Stores, operations: OperationService) -> None:
        self._settings = settings
        self._clock = clock
        self._stores = stores
        self._operations = operations
        for kind in (BACKUP, VERIFY, RESTORE):
            operations.kinds.add(BackupKind(kind, self))

    async def all(self) -> tuple[list[Noted], str, str | None]:
        """Return every backup, newest first, where they are, and which one waits to be restored. Raises Unavailable."""
        backups = await self.backups()
        plan = await asyncio.to_thread(restoring.waiting, self._settings.home)
        return await asyncio.to_thread(backups.all), backups.target.name, plan.backup_id if plan else None

    async def start(self, kind: str, caller: str, **request: Any) -> Operation:
        """Queue one of the kinds. Raises NotFound for a backup that is not there, Unavailable."""
        if backup_id := request.get("backup_id"):
            target = (await self.backups()).target
            await asyncio.to_thread(targets.note, target, check_id(backup_id))
        return await self._operations.submit(kind, request, caller=caller)

    async def cancel_restore(self) -> str:
        """Forget the restore that waits; return its backup's id. Raises NotFound where none waits, Conflict, Unavailable."""
        return (await asyncio.to_thread(restoring.cancel, self._settings.home)).backup_id

    async def backups(self) -> Backups:
        """Return the backups at the target that is set."""
        settings = self._settings
        return Backups(settings.home, await target_of(settings, self._stores), settings.backup_keep)

    def scheduled(self) -> list[ScheduledJob]:
        """Return the job of the schedule, unless it is off."""
        settings = self._settings

        async def make() -> str:
            return f"Operation {(await self.start(BACKUP, CALLER, outputs=settings.backup_outputs == 'on')).id}"

        return [ScheduledJob(BACKUP, "Make a backup", settings.backup_schedule, make)] if settings.backup_schedule != "off" else []

    async def work(self, kind: str, work: Work) -> None:
        """Do one of the kinds. Raises OperationFailed."""
        backups, home = await self.backups(), self._settings.home
        stop, loop = threading.Event(), asyncio.get_running_loop()

        def going() -> None:
            if stop.is_set():
                raise Stopped

        def tell(step: str, progress: float) -> None:
            going()
            loop.call_soon_threadsafe(work.step, step, progress)

        if kind == BACKUP:
            now, outputs = self._clock.now(), bool(work.request.get("outputs"))
            made = await _in_thread(stop, lambda: backups.create(now, outputs, False, tell, going))
        elif kind == VERIFY:
            made = await _in_thread(stop, lambda: backups.verify(work.request["backup_id"], going))
        else:
            backup_id = work.request["backup_id"]
            await _in_thread(stop, lambda: restoring.stage(home, lambda folder, go: backups.unpack(backup_id, folder, go), going))
            work.result.update({"backup_id": backup_id, "applied": False})
            work.tell("done", f"{backup_id} is verified and unpacked: stop and start the control plane to restore it.")
            return
        work.result.update({"backup_id": made.id, "size": made.size, "files": made.count, "sha256": made.sha256, "left_out": made.left_out})
        for left in made.left_out:
            log.warning("left_out_of_backup", backup=made.id, what=left)
            work.tell("note", f"Left out: {left}.")
        work.tell("done", f"{made.id}: {made.count} files, {made.size} bytes, every byte read back.")


class BackupKind:
    """One kind of operation; see :class:`fleet_api.operations.kinds.Kind`."""

    waits_only = False

    def __init__(self, name: str, service: BackupService) -> None:
        self.name = name
        self._service = service

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        return " ".join([TITLES[self.name], *([request["backup_id"]] if "backup_id" in request else [])])

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`."""
        return []

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        try:
            await self._service.work(self.name, work)
        except FleetError as error:
            raise work.failed(error) from error
        except Stopped:
            raise OperationFailed("It was stopped.") from None


async def _in_thread(stop: threading.Event, call: Callable[[], T]) -> T:
    """Run it in a thread; cancelled, wait a while until the thread has cleaned up. One that hangs at a store is left to itself."""
    doing = asyncio.wrap_future(aside(call))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([doing], timeout=PATIENCE_SECONDS)
        if not doing.done():
            log.warning("backup_left_to_itself")
            doing.cancel()
        elif not doing.cancelled():
            doing.exception()
        raise
