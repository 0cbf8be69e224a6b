"""The install queue: a view of onboarding operations in the documents' words."""

from __future__ import annotations

from pydantic import BaseModel, Field

from fleet_api.kit.clock import rfc3339
from fleet_api.operations.models import Operation


class InstallJob(BaseModel):
    """One machine on its way to be a node."""

    job_id: str
    host: str = Field(examples=["192.0.2.10"])
    cluster: str | None = Field(examples=["vision"])
    node_id: str | None = Field(description="Its name in the fleet, once it is known")
    status: str = Field(description="queued, running, succeeded, failed, cancelled or lost", examples=["running"])
    step: str | None = Field(examples=["docker_engine"])
    progress: float = Field(description="Percent", examples=[40.0])
    error: str | None
    created_at: str
    operation_id: str

    @classmethod
    def of(cls, row: Operation) -> InstallJob:
        """Return the operation as the queue shows it."""
        return cls(
            job_id=row.id, operation_id=row.id, host=row.request["ip"], cluster=row.request.get("cluster"), status=row.state, step=row.step,
            node_id=row.node_ids[0] if row.node_ids else None, progress=row.progress,
            error=row.reason if row.state != "succeeded" else None, created_at=rfc3339(row.created_at) or "",
        )  # fmt: skip


class InstallQueue(BaseModel):
    """Every machine that nobody has cleared away, oldest first."""

    jobs: list[InstallJob]


class Cleared(BaseModel):
    """What was cleared away, and what was cancelled."""

    cleared: int
    cancelled: int
    running: int = Field(description="Unfinished entries that stay")


class Retried(BaseModel):
    """The entries that were queued again."""

    retried: int
    jobs: list[InstallJob]
