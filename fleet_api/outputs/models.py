"""Table of outputs. Times are epoch seconds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Index, false, true
from sqlmodel import Field

from fleet_api.kit.table import Table


class Output(Table, table=True):
    """A finished file and what made it.

    ``key`` is its place below the outputs' folder and in the bucket: its name, or with the program that wrote it before, such as
    ``comfyui/cat.png``. ``local`` says whether the folder has it; ``synced_at`` when the bucket got it, None where it has none;
    ``deleted_at`` when it was put into the bin. ``seconds`` is how long it took to make.
    """

    __tablename__ = "outputs"
    __table_args__ = (
        Index("ix_outputs_place", "local", "synced_at", "bytes"),
        Index("ix_outputs_created_at", "created_at", "deleted_at"),
        Index("ix_outputs_model", "model", "deleted_at"),
        Index("ix_outputs_lora", "lora", "deleted_at"),
        Index("ix_outputs_node_id", "node_id", "deleted_at"),
        Index("ix_outputs_starred", "starred", "deleted_at"),
    )

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
    key: str = Field(default="", index=True, unique=True, sa_column_kwargs={"server_default": ""})
    lora: str = Field(default="", sa_column_kwargs={"server_default": ""})
    seconds: float | None = None
    starred: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    local: bool = Field(default=True, sa_column_kwargs={"server_default": true()})
    synced_at: float | None = None
    deleted_at: float | None = Field(default=None, index=True)
