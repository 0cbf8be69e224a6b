"""Chapter: queue, what became of a job's callbacks."""

from __future__ import annotations

from fastapi import APIRouter

from fleet_api.callbacks.schemas import DeliveryList, DeliveryView
from fleet_api.deps import DeliveryId, Fleet, JobId, Limit, Offset
from fleet_api.errors import documented

router = APIRouter(prefix="/api/queue", tags=["queue"])


@router.get("/jobs/{job_id}/deliveries", summary="Callbacks of a job", responses=documented(400, 404), response_model_exclude_none=True)
async def list_deliveries(fleet: Fleet, job_id: JobId, limit: Limit = 50, offset: Offset = 0) -> DeliveryList:
    """Return the messages about a job's ends, newest first, each with its attempts."""
    found, total = await fleet.callbacks.page(job_id, limit, offset)
    return DeliveryList(deliveries=[DeliveryView.of(row) for row in found], total=total)


@router.post(
    "/jobs/{job_id}/deliveries/{delivery_id}/replay", summary="Send a callback again", responses=documented(404, 409),
    response_model_exclude_none=True,
)  # fmt: skip
async def replay(fleet: Fleet, job_id: JobId, delivery_id: DeliveryId) -> DeliveryView:
    """Send a message again at once, under the same id and with the same body, whatever became of it."""
    return DeliveryView.of(await fleet.callbacks.replay(job_id, delivery_id))
