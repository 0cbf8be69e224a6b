"""Table of the swarm."""

from __future__ import annotations

from sqlalchemy import JSON, Column
from sqlmodel import Field

from fleet_api.kit.table import Table

LOCAL = "local"
"""What the engine of the control plane's own machine is called where nodes are named."""


class Swarm(Table, table=True):
    """The swarm that the control plane works with: one row at most. ``managers`` are node ids, or :data:`LOCAL`."""

    __tablename__ = "swarms"

    id: str = Field(primary_key=True)
    managers: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    known_at: float
