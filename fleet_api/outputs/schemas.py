"""How outputs are shown."""

from __future__ import annotations

from pydantic import BaseModel, Field

from fleet_api.kit.clock import rfc3339
from fleet_api.outputs.models import Output


class GalleryImage(BaseModel):
    """A picture and what made it."""

    filename: str = Field(examples=["image_550e8400-e29b-41d4-a716-446655440000.png"])
    url: str
    thumbnail_url: str
    prompt: str
    model: str
    seed: int
    width: int
    height: int
    node_id: str
    created_at: str | None

    @classmethod
    def of(cls, output: Output) -> GalleryImage:
        """Return an output as the gallery shows it."""
        url = f"/api/vision/outputs/{output.filename}"
        return cls(
            filename=output.filename, url=url, thumbnail_url=f"{url}?thumbnail=true", prompt=output.prompt, model=output.model,
            seed=output.seed, width=output.width, height=output.height, node_id=output.node_id, created_at=rfc3339(output.created_at),
        )  # fmt: skip


class Gallery(BaseModel):
    """A page of pictures, newest first; ``next`` is the offset of the next page, or null."""

    images: list[GalleryImage]
    total: int
    next: int | None


class OutputView(BaseModel):
    """A finished file."""

    filename: str
    url: str
    job_id: str
    bytes: int
    sha256: str
    created_at: str | None

    @classmethod
    def of(cls, output: Output) -> OutputView:
        """Return an output as the list shows it."""
        return cls(
            filename=output.filename, url=f"/api/vision/outputs/{output.filename}", job_id=output.job_id, bytes=output.bytes,
            sha256=output.sha256, created_at=rfc3339(output.created_at),
        )  # fmt: skip


class OutputList(BaseModel):
    """A page of files, newest first."""

    outputs: list[OutputView]
    total: int


class Deleted(BaseModel):
    """What was deleted."""

    deleted: int
