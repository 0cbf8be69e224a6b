"""Table of outputs. Times are epoch seconds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field

from fleet_api.kit.table import Table


class Output(Table, table=True):
    """A finished file and what made it."""

    __tablename__ = "outputs"

    seq: int | None = Field(default=None, primary_key=True)
    filename: str = Field(unique=True)
    job_id: str = Field(index=True)
    node_id: str
    prompt: str = ""
    model: str = ""
    seed: int = 0
    width: int = 0
    height: int = 0
    bytes: int
    sha256: str
    created_at: float
    parameters: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
