"""Chapter: backups."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from fleet_api.backups.schemas import BackupBody, BackupList, BackupView, CancelledRestore
from fleet_api.backups.service import BACKUP, RESTORE, VERIFY
from fleet_api.deps import CallerNamed, Fleet, Limit, Offset
from fleet_api.errors import documented
from fleet_api.operations.schemas import OperationView

router = APIRouter(prefix="/api/backups", tags=["backups"])

BackupId = Annotated[str, Path(description="A backup's id", examples=["fleet-20260101T033000Z-9f2c"])]


@router.get("", summary="Backups, newest first", responses=documented(400, 409, 503))
async def list_backups(fleet: Fleet, limit: Limit = 50, offset: Offset = 0) -> BackupList:
    """Return a page of the backups that the target lists."""
    found, target, waiting = await fleet.backups.all()
    page = [BackupView.of(each) for each in found[offset : offset + limit]]
    return BackupList(backups=page, total=len(found), target=target, waiting=waiting)


@router.post("", status_code=201, summary="Make a backup", responses=documented(400, 413, 429, 503))
async def create_backup(fleet: Fleet, caller: CallerNamed, body: BackupBody | None = None) -> OperationView:
    """Start an operation that makes a backup of database, settings and the sealed vault, and reads all of it back."""
    outputs = body.outputs if body is not None else False
    return OperationView.of(await fleet.backups.start(BACKUP, caller.name, outputs=outputs))


@router.delete("/restore", summary="Take back a restore that waits", responses=documented(404, 409, 503))
async def cancel_restore(fleet: Fleet) -> CancelledRestore:
    """Forget the restore that the control plane's next start would put in place; nothing else changes."""
    return CancelledRestore(backup_id=await fleet.backups.cancel_restore())


@router.post("/{backup_id}/verify", status_code=201, summary="Verify a backup", responses=documented(400, 404, 409, 429, 503))
async def verify_backup(fleet: Fleet, caller: CallerNamed, backup_id: BackupId) -> OperationView:
    """Start an operation that reads every byte of a backup and checks it."""
    return OperationView.of(await fleet.backups.start(VERIFY, caller.name, backup_id=backup_id))


@router.post(
    "/{backup_id}/restore", status_code=201, summary="Make ready to restore a backup", responses=documented(400, 404, 409, 429, 503)
)
async def restore_backup(fleet: Fleet, caller: CallerNamed, backup_id: BackupId) -> OperationView:
    """Start an operation that verifies a backup and unpacks it. The control plane's next start puts it in place; what was there is kept."""
    return OperationView.of(await fleet.backups.start(RESTORE, caller.name, backup_id=backup_id))
