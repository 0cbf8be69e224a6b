"""Tables of operations: the work, what it told, and which nodes it holds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Index
from sqlmodel import Field

from fleet_api.kit.table import Table


class Operation(Table, table=True):
    """A piece of work of the control plane. Times are epoch seconds; nothing secret is ever in a row."""

    __tablename__ = "operations"
    __table_args__ = (
        Index("ix_operations_state_created", "state", "created_at"),
        Index("ix_operations_kind_created", "kind", "created_at"),
        Index("ix_operations_created_at", "created_at"),
    )

    id: str = Field(primary_key=True)
    kind: str
    title: str
    state: str
    checking: bool = False
    node_ids: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    request: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    result: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    step: str | None = None
    progress: float = 0.0
    reason: str | None = None
    retry_of: str | None = Field(default=None, index=True)
    parent_id: str | None = Field(default=None, index=True)
    caller: str = ""
    cancel_asked: bool = False
    dismissed: bool = False
    last_event: int = 0
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None


class OperationEvent(Table, table=True):
    """One thing that an operation told: numbered from 1, without gaps."""

    __tablename__ = "operation_events"

    operation_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    at: float
    type: str
    node_id: str | None = None
    task: str | None = None
    text: str = ""
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class NodeLock(Table, table=True):
    """A node that an operation holds: one operation a node at a time."""

    __tablename__ = "node_locks"

    node_id: str = Field(primary_key=True)
    operation_id: str = Field(index=True)
    since: float


class ScheduledRun(Table, table=True):
    """When a scheduled job last ran, and how it went."""

    __tablename__ = "scheduled_runs"

    name: str = Field(primary_key=True)
    enabled: bool = True
    last_run: float | None = None
    next_run: float | None = None
    outcome: str | None = None
