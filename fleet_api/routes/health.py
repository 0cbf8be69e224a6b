"""Chapter: health."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from fleet_api import checks
from fleet_api.deps import Fleet
from fleet_api.errors import Unavailable, documented
from fleet_api.routes.summaries import JobCounts, NodeCounts, job_counts, node_counts
from fleet_api.storage.service import StoreState
from fleet_api.version import __version__

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """Alive, and able to do its work. Each of ``checks`` is ``ok`` or says what is wrong."""

    status: str = Field(examples=["healthy"])
    version: str = Field(examples=["0.1.0"])
    checks: dict[str, str] = Field(examples=[{"database": "ok", "outputs": "ok", "background": "ok", "generation": "ok"}])


class Status(BaseModel):
    """The fleet in figures."""

    status: str = Field(examples=["healthy"])
    version: str = Field(examples=["0.1.0"])
    nodes: NodeCounts
    jobs: JobCounts
    storage: StoreState


@router.get("/health", summary="Is the control plane well", responses=documented(503))
async def health(fleet: Fleet) -> Health:
    """Write to the database, look at the outputs' disk and at the background services; answer 200, or 503 with what is wrong.

    ``generation`` says whether a node could make a picture now; it is a fact about the fleet, and no reason for a 503.
    """
    found = await checks.run(fleet)
    wrong = [f"{name}: {what}" for name, what in found.items() if what != checks.OK and name in checks.VITAL]
    if wrong:
        raise Unavailable("Not healthy. " + " ".join(wrong))
    return Health(status="healthy", version=__version__, checks=found)


@router.get("/api/status", summary="The fleet in figures", responses=documented(503))
async def status(fleet: Fleet) -> Status:
    """Return the number of nodes and of jobs by state, and whether the S3 store answers."""
    counts = await job_counts(fleet)
    return Status(status="healthy", version=__version__, nodes=node_counts(fleet), jobs=counts, storage=await fleet.storage.state())
