"""Chapter: health."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import text

from fleet_api.deps import Fleet
from fleet_api.errors import documented
from fleet_api.routes.summaries import JobCounts, NodeCounts, job_counts, node_counts
from fleet_api.version import __version__

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """Alive, and able to read its database."""

    status: str = Field(examples=["healthy"])
    version: str = Field(examples=["0.1.0"])


class Status(Health):
    """The fleet in figures."""

    nodes: NodeCounts
    jobs: JobCounts


@router.get("/health", summary="Is the control plane well", responses=documented(503))
async def health(fleet: Fleet) -> Health:
    """Answer 200 once the database answers a query, else 503 with the reason."""
    await fleet.db.read(lambda db: db.execute(text("SELECT 1")).scalar_one())
    return Health(status="healthy", version=__version__)


@router.get("/api/status", summary="The fleet in figures", responses=documented(503))
async def status(fleet: Fleet) -> Status:
    """Return the number of nodes and of jobs by state."""
    return Status(status="healthy", version=__version__, nodes=node_counts(fleet), jobs=await job_counts(fleet))
