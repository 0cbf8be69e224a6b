"""How outputs are shown."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from fleet_api.kit.clock import rfc3339
from fleet_api.kit.fields import RequestBody, Text
from fleet_api.outputs.media import is_picture
from fleet_api.outputs.models import Output
from fleet_api.outputs.sync.reports import Cleaned, Moved, Progress, Synced
from fleet_api.outputs.sync.repository import Amount
from fleet_api.storage.service import StoreState

MAX_SELECTION = 1000


class GalleryImage(BaseModel):
    """A picture (or a video, which has no thumbnail) and what made it."""

    filename: str = Field(examples=["image_550e8400-e29b-41d4-a716-446655440000.png"])
    url: str
    thumbnail_url: str | None
    prompt: str
    model: str
    lora: str
    seed: int
    width: int
    height: int
    node_id: str
    starred: bool
    created_at: str | None
    deleted_at: str | None = Field(None, description="When it was put into the bin, from which it goes after a day")

    @classmethod
    def of(cls, output: Output) -> GalleryImage:
        """Return an output as the gallery shows it."""
        url = f"/api/vision/outputs/{output.filename}"
        return cls(
            filename=output.filename, url=url, thumbnail_url=f"{url}?thumbnail=true" if is_picture(output.filename) else None,
            prompt=output.prompt, model=output.model, lora=output.lora, seed=output.seed, width=output.width, height=output.height,
            node_id=output.node_id, starred=output.starred, created_at=rfc3339(output.created_at), deleted_at=rfc3339(output.deleted_at),
        )  # fmt: skip


class Gallery(BaseModel):
    """A page of pictures, newest first; ``next`` is the ``cursor`` of the next page, or null."""

    images: list[GalleryImage]
    total: int
    next: int | None


class OutputView(BaseModel):
    """A finished file. ``public_url`` is its address in the S3 store, once it is there."""

    filename: str
    url: str
    job_id: str
    bytes: int
    sha256: str
    local: bool
    synced_at: str | None
    public_url: str | None = None
    created_at: str | None

    @classmethod
    def of(cls, output: Output, public_url: str | None = None) -> OutputView:
        """Return an output as the list shows it."""
        return cls(
            filename=output.filename, url=f"/api/vision/outputs/{output.filename}", job_id=output.job_id, bytes=output.bytes,
            sha256=output.sha256, local=output.local, synced_at=rfc3339(output.synced_at),
            public_url=public_url if output.synced_at is not None else None, created_at=rfc3339(output.created_at),
        )  # fmt: skip


class OutputDetail(OutputView):
    """Everything that is known of an output. ``seconds`` is how long it took to make."""

    image: GalleryImage
    seconds: float | None
    parameters: dict[str, Any]

    @classmethod
    def detail(cls, output: Output, public_url: str | None) -> OutputDetail:
        """Return an output with all that made it."""
        view = OutputView.of(output, public_url)
        return cls(**view.model_dump(), image=GalleryImage.of(output), seconds=output.seconds, parameters=output.parameters)


class OutputList(BaseModel):
    """A page of files, newest first."""

    outputs: list[OutputView]
    total: int


class Deleted(BaseModel):
    """What was deleted."""

    deleted: int


class Selection(RequestBody):
    """Some outputs."""

    filenames: list[Annotated[Text, Field(min_length=1, max_length=128)]] = Field(
        min_length=1, max_length=MAX_SELECTION, description="Names of outputs",
        examples=[["image_550e8400-e29b-41d4-a716-446655440000.png"]],
    )  # fmt: skip


class AmountView(BaseModel):
    """So many files, so many bytes."""

    count: int
    bytes: int

    @classmethod
    def of(cls, amount: Amount) -> AmountView:
        """Return an amount as it is shown."""
        return cls(count=amount.count, bytes=amount.bytes)


class ProgressView(BaseModel):
    """What is being done with outputs."""

    doing: str = Field(examples=["sync"])
    done: int
    total: int

    @classmethod
    def of(cls, progress: Progress | None) -> ProgressView | None:
        """Return progress as it is shown."""
        return cls(doing=progress.doing, done=progress.done, total=progress.total) if progress else None


class OutputStats(BaseModel):
    """What is where. ``unsynced`` files are in the local folder alone."""

    local: AmountView
    s3: AmountView
    last_sync: str | None
    unsynced: AmountView
    store: StoreState
    progress: ProgressView | None
    trouble: str | None = Field(description="Why the last sync ended early, if it did")


class SourceList(BaseModel):
    """Files that are in a source, newest first."""

    source: str = Field(examples=["s3"])
    outputs: list[OutputView]
    total: int


class SyncReport(BaseModel):
    """What a sync did: ``skipped`` were there before, ``adopted`` were written by other programs; ``detail`` says why it ended early."""

    uploaded: int
    skipped: int
    failed: int
    bytes: int
    adopted: int
    detail: str | None

    @classmethod
    def of(cls, report: Synced) -> SyncReport:
        """Return a report as it is shown."""
        return cls(
            uploaded=report.uploaded, skipped=report.skipped, failed=report.failed, bytes=report.bytes, adopted=report.adopted,
            detail=report.detail,
        )  # fmt: skip


class CleanupReport(BaseModel):
    """What a cleanup deleted, or would; ``kept_unsynced`` are old enough, and not proved to be in the bucket."""

    dry_run: bool
    deleted: int
    freed_bytes: int
    kept_unsynced: int
    detail: str | None

    @classmethod
    def of(cls, report: Cleaned) -> CleanupReport:
        """Return a report as it is shown."""
        return cls(
            dry_run=report.dry_run, deleted=report.deleted, freed_bytes=report.freed_bytes, kept_unsynced=report.kept_unsynced,
            detail=report.detail,
        )  # fmt: skip


class MoveReport(BaseModel):
    """What a move did."""

    uploaded: int
    failed: int
    deleted: int
    freed_bytes: int
    kept_unsynced: int
    detail: str | None

    @classmethod
    def of(cls, report: Moved) -> MoveReport:
        """Return a report as it is shown."""
        return cls(
            uploaded=report.synced.uploaded, failed=report.synced.failed, deleted=report.cleaned.deleted,
            freed_bytes=report.cleaned.freed_bytes, kept_unsynced=report.cleaned.kept_unsynced,
            detail=report.synced.detail or report.cleaned.detail,
        )  # fmt: skip
