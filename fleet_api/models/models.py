"""Table of the model store. Times are epoch seconds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field

from fleet_api.kit.table import Table


class StoredModel(Table, table=True):
    """A model or LoRA in the object store: an index of what lies there, which the buckets alone could give again.

    ``files`` are ``{name, size, sha256}``. ``sha256`` is that of the one file, or of the list of several. ``note`` says why no node can
    use it; empty where nodes can.
    """

    __tablename__ = "stored_models"

    type: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    sha256: str
    base: str = ""
    source: str = ""
    native_size: int = 0
    note: str = ""
    created_at: float
    files: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
