"""Chapter: schedule."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from fleet_api.deps import Fleet
from fleet_api.errors import documented
from fleet_api.operations.schedule import ScheduleView

router = APIRouter(prefix="/api/schedule", tags=["schedule"])

JobName = Annotated[str, Path(description="A scheduled job's name", examples=["doctor"])]


@router.get("", summary="What runs by the clock")
async def schedule(fleet: Fleet) -> list[ScheduleView]:
    """Return every scheduled job with its last and next run."""
    return await fleet.schedule.views()


@router.post("/{name}/run", summary="Run a scheduled job now", responses=documented(404))
async def run_now(fleet: Fleet, name: JobName) -> ScheduleView:
    """Run a scheduled job at once, beside its times."""
    return await fleet.schedule.run_now(name)
