"""How operations are asked for and shown."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from fleet_api.kit.clock import rfc3339
from fleet_api.operations.models import Operation, OperationEvent
from fleet_api.operations.states import OperationState

NOT_SHOWN = "[not shown]"
COMMANDS = ("command", "health")
"""What a request says of commands in containers: passwords stand in them too often for everybody to see."""


class OperationView(BaseModel):
    """An operation: work of the control plane that takes long."""

    id: str = Field(examples=["550e8400-e29b-41d4-a716-446655440000"])
    kind: str = Field(examples=["onboard"])
    title: str = Field(examples=["Onboard 192.0.2.10"])
    state: OperationState
    check: bool = Field(description="A plan: nothing is changed")
    node_ids: list[str] = Field(examples=[["agx0"]])
    step: str | None = Field(examples=["docker_engine"])
    progress: float = Field(description="Percent", examples=[40.0])
    reason: str | None = Field(description="Why it did not succeed, and what to do", examples=[None])
    result: dict[str, Any]
    request: dict[str, Any]
    retry_of: str | None
    parent_id: str | None = Field(description="The operation that this one is a part of")
    caller: str
    last_event: int = Field(description="Number of its newest event")
    created_at: str
    started_at: str | None
    ended_at: str | None

    @classmethod
    def of(cls, row: Operation) -> OperationView:
        """Return the row as it is shown."""
        return cls(
            id=row.id, kind=row.kind, title=row.title, state=OperationState(row.state), check=row.checking, node_ids=row.node_ids,
            step=row.step, progress=row.progress, reason=row.reason, result=row.result, request=_shown(row.request), retry_of=row.retry_of,
            parent_id=row.parent_id, caller=row.caller, last_event=row.last_event, created_at=rfc3339(row.created_at) or "",
            started_at=rfc3339(row.started_at), ended_at=rfc3339(row.ended_at),
        )  # fmt: skip


def _shown(request: dict[str, Any]) -> dict[str, Any]:
    return {
        name: NOT_SHOWN if name in COMMANDS and value else _shown(value) if isinstance(value, dict) else value
        for name, value in request.items()
    }


class OperationList(BaseModel):
    """A page of operations, newest first."""

    operations: list[OperationView]
    total: int


class EventView(BaseModel):
    """One thing that an operation told."""

    seq: int
    at: str
    type: str
    node_id: str | None
    task: str | None
    text: str
    data: dict[str, Any]

    @classmethod
    def of(cls, row: OperationEvent) -> EventView:
        """Return the row as it is shown."""
        return cls(seq=row.seq, at=rfc3339(row.at) or "", type=row.type, node_id=row.node_id, task=row.task, text=row.text, data=row.data)


class Started(BaseModel):
    """The answer of whatever starts an operation."""

    status: str = Field(examples=["queued"])
    message: str = Field(examples=["Onboard 192.0.2.10"])
    operation_id: str


class StartBody(BaseModel):
    """Which playbook, and where."""

    kind: str = Field(max_length=50, description="One of the playbooks for nodes", examples=["doctor"])
    node_ids: list[str] | None = Field(None, min_length=1, max_length=500, examples=[["agx0"]])
    cluster: str | None = Field(None, min_length=1, max_length=100, description="Every node of this cluster, instead of node_ids")
    mode: Literal["native", "container"] | None = Field(
        None, description="For gpu_inference: native, as it is by itself, or container, which runs agents as containers of the swarm"
    )
