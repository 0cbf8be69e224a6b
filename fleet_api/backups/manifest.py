"""What a backup says of itself."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field, model_validator

from fleet_api.errors import Conflict, InvalidValue, Unavailable

FORMAT = 1
ID = re.compile(r"fleet-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")
ARCHIVE, NOTE, PART = ".tar.gz", ".json", ".part"
MANIFEST = "manifest.json"

DATABASE = "fleet.db"
PLAIN = ("fleet.toml", "storage")
"""Of the data folder, beside the database: settings, and where the object store is. Neither holds a secret."""

KEYS = ("vault", "tls", "registry", "idempotency.key")
"""What opens the vault, and what proves who this control plane is: secrets in the clear, in a backup only when asked for by name."""

OUTPUTS = "outputs"
ROOTS = (DATABASE, *PLAIN, *KEYS, OUTPUTS)


class BackupDamaged(Conflict):
    """A backup is not what was written."""


class BackupFailed(Unavailable):
    """A backup could not be made, or read, where it is."""


class FileEntry(BaseModel):
    """One file of a backup, or a link of its folder: ``link`` is where it leads."""

    path: str
    size: int
    sha256: str
    link: str = ""


class Noted(BaseModel):
    """One backup, as the note beside it tells: of its files only how many.

    ``size`` and ``sha256`` are those of the archive; inside the archive itself they are not known yet. ``left_out`` says what the data
    folder has and the backup has not, and why.
    """

    format: int = FORMAT
    id: str
    version: str
    revision: str
    created_at: float
    outputs: bool = False
    keys: bool = False
    left_out: list[str] = Field(default_factory=list)
    count: int = 0
    size: int = 0
    sha256: str = ""

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, data: Any) -> Any:
        """A note may name the files themselves; they are counted and let go."""
        if isinstance(data, dict) and "count" not in data and isinstance(data.get("files"), list):
            return {**data, "count": len(data["files"])}
        return data


class Manifest(Noted):
    """What the archive itself says of the backup: the same, and each of its files."""

    files: list[FileEntry] = Field(default_factory=list)

    def noted(self) -> Noted:
        """Return what the note beside the archive says."""
        return Noted.model_validate(self.model_dump(exclude={"files"}))


def new_id(now: float) -> str:
    """Return a name that sorts by its time."""
    return f"fleet-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def check_id(backup_id: str) -> str:
    """Return a backup's id. Raises InvalidValue for what can be none."""
    if not ID.fullmatch(backup_id):
        raise InvalidValue(f"id: {backup_id[:60]!r} is no backup's id; 'fleet backup list' shows them.")
    return backup_id


def damaged(name: str, why: str) -> BackupDamaged:
    """Return the error of a backup that cannot be trusted."""
    return BackupDamaged(f"The backup {name} is damaged: {why}. Nothing was changed; use another one.")
