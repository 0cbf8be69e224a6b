"""Chapter: outputs, where the finished files are."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from fleet_api.deps import Fleet, Limit, Offset
from fleet_api.errors import documented
from fleet_api.kit.clock import rfc3339
from fleet_api.outputs.schemas import (
    AmountView,
    CleanupReport,
    MoveReport,
    OutputStats,
    OutputView,
    ProgressView,
    SourceList,
    SyncReport,
)
from fleet_api.outputs.search.repository import Wanted

router = APIRouter(prefix="/api/outputs", tags=["outputs"])


@router.get("/stats", summary="What is where")
async def stats(fleet: Fleet) -> OutputStats:
    """Return how much is in the local folder and in the S3 store, whether the store answers, and what is being done."""
    found = await fleet.outputs.places()
    sync = fleet.output_sync
    return OutputStats(
        local=AmountView.of(found.local), s3=AmountView.of(found.synced), unsynced=AmountView.of(found.unsynced),
        last_sync=rfc3339(sync.last or found.last), store=await fleet.storage.state(), progress=ProgressView.of(sync.progress),
        trouble=sync.trouble,
    )  # fmt: skip


@router.get("/list", summary="Outputs of one place, newest first", responses=documented(400))
async def listed(
    fleet: Fleet,
    source: Annotated[Literal["s3", "local"], Query(description="s3 or local")] = "local",
    limit: Limit = 100,
    offset: Offset = 0,
) -> SourceList:
    """Return a page of the outputs that are in the local folder, or in the S3 store with their public addresses."""
    page = await fleet.outputs.page(Wanted(local=True) if source == "local" else Wanted(synced=True), limit, offset)
    url = await fleet.storage.public_urls()
    return SourceList(source=source, outputs=[OutputView.of(each, url(each.key)) for each in page.outputs], total=page.total)


@router.post("/sync", summary="Send new outputs to the S3 store", responses=documented(503))
async def sync(fleet: Fleet) -> SyncReport:
    """Send what the store lacks, as happens every 15 minutes; answers when it is done. A second caller is told of the same run."""
    return SyncReport.of(await fleet.output_sync.sync())


@router.post("/cleanup", summary="Delete local files that the S3 store has", responses=documented(400, 409, 503))
async def cleanup(
    fleet: Fleet,
    max_age_hours: Annotated[float, Query(ge=0, le=87_600, allow_inf_nan=False, description="Only files older than this")] = 24,
    dry_run: Annotated[bool, Query(description="Only tell what would be deleted")] = False,
) -> CleanupReport:
    """Delete local files that are old enough, each after its copy's bytes were read back and fit; the gallery still shows them."""
    return CleanupReport.of(await fleet.output_sync.cleanup(max_age_hours, dry_run))


@router.post("/move-all-to-s3", summary="Send every output to the S3 store and free the local folder", responses=documented(409, 503))
async def move_all(fleet: Fleet) -> MoveReport:
    """Send what the store lacks, then delete every local file whose copy's bytes were read back and fit."""
    return MoveReport.of(await fleet.output_sync.move_all())
