"""Bodies and answers of the chapter backups."""

from __future__ import annotations

from pydantic import BaseModel, Field

from fleet_api.backups.manifest import Noted
from fleet_api.kit.clock import rfc3339
from fleet_api.kit.fields import RequestBody


class BackupBody(RequestBody):
    """What a backup shall hold beside database, settings and the sealed vault."""

    outputs: bool = Field(False, description="Also the finished pictures")


class BackupView(BaseModel):
    """One backup."""

    id: str = Field(examples=["fleet-20260101T033000Z-9f2c"])
    created_at: str
    version: str = Field(description="The version that made it")
    revision: str = Field(description="Its database's schema")
    size: int = Field(description="Bytes of its archive")
    files: int
    outputs: bool
    keys: bool = Field(description="Whether it holds the vault's master keys and the authority's key in the clear")
    sha256: str
    left_out: list[str] = Field(description="What the data folder has and the backup has not, such as linked folders, and why")

    @classmethod
    def of(cls, found: Noted) -> BackupView:
        """Return a backup as callers see it."""
        return cls(
            id=found.id, created_at=rfc3339(found.created_at) or "", version=found.version, revision=found.revision, size=found.size,
            files=found.count, outputs=found.outputs, keys=found.keys, sha256=found.sha256,
            left_out=found.left_out,
        )  # fmt: skip


class CancelledRestore(BaseModel):
    """The restore that is no longer waiting."""

    backup_id: str = Field(examples=["fleet-20260101T033000Z-9f2c"])


class BackupList(BaseModel):
    """The backups of the target, newest first. ``waiting`` is the one that the next start restores."""

    backups: list[BackupView]
    total: int
    target: str
    waiting: str | None
