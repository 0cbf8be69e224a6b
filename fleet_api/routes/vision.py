"""Chapter: vision, the picture jobs. Outputs and the gallery are in ``gallery.py``, models and LoRAs in ``models.py``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from fleet_api.deps import Explain, Fleet, JobId, Limit, Offset, OnceKey, caller_id, charge
from fleet_api.errors import documented
from fleet_api.jobs import repository
from fleet_api.jobs.images import VisionGenerateBody
from fleet_api.jobs.leases import percent_of
from fleet_api.jobs.schemas import Cancelled, CancelledCount, JobList, JobView, QueueView, VisionSubmitted
from fleet_api.jobs.states import JobState, JobType
from fleet_api.lifespan import State
from fleet_api.nodes.live import LiveNode
from fleet_api.routes.summaries import VisionSummary, vision_summary

router = APIRouter(prefix="/api/vision", tags=["vision"])

ASPECT_RATIOS = [
    ("1:1", 1024, 1024), ("4:3", 1152, 896), ("3:4", 896, 1152), ("3:2", 1216, 832), ("2:3", 832, 1216),
    ("16:9", 1344, 768), ("9:16", 768, 1344), ("21:9", 1536, 640), ("9:21", 640, 1536),
]  # fmt: skip


class VisionNode(BaseModel):
    """A vision worker."""

    node_id: str
    status: str
    loaded_model: str | None
    current_job: str | None
    progress: int
    queue: int
    url: str | None
    unavailable: str | None = Field(None, description="Why it is given no jobs now, if it is not")


class VisionNodes(BaseModel):
    """Every vision worker, by name."""

    nodes: list[VisionNode]


class Schedulers(BaseModel):
    """Samplers that the fleet's agents serve."""

    schedulers: list[str]


class AspectRatio(BaseModel):
    """A shape of picture, about a million pixels."""

    name: str
    width: int
    height: int


class AspectRatios(BaseModel):
    """The shapes offered."""

    ratios: list[AspectRatio]


@router.get("/status", summary="Vision workers in figures")
async def status(fleet: Fleet) -> VisionSummary:
    """Return vision workers by status, the queue's length and the loaded models."""
    return vision_summary(fleet)


@router.get("/nodes", summary="Every vision worker")
async def vision_nodes(fleet: Fleet) -> VisionNodes:
    """Return every vision worker with its model and its job."""
    return VisionNodes(nodes=[_vision_node(fleet, node) for node in fleet.nodes.all() if "image_gen" in node.capabilities.job_types])


@router.post("/generate", status_code=201, summary="Queue a picture", responses=documented(400, 404, 409, 413, 422, 429, 503))
async def generate(fleet: Fleet, request: Request, body: VisionGenerateBody, once: OnceKey) -> VisionSubmitted:
    """Queue one picture, or ``count`` of them with consecutive seeds. They are on disk when this answers."""
    jobs = await fleet.jobs.submit(fleet.doors.picture(body, "vision"), once, caller_id(request))
    charge(fleet, request, len(jobs))
    first = jobs[0]
    return VisionSubmitted(
        job_id=first.id, status=first.state, queue_position=fleet.jobs.index.position(first.id), target_model=first.model or "",
        job_ids=[job.id for job in jobs],
    )  # fmt: skip


@router.get("/jobs", summary="Picture jobs, newest first", responses=documented(400), response_model_exclude_none=True)
async def list_jobs(
    fleet: Fleet,
    status: Annotated[JobState | None, Query(description="Only jobs in this state")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> JobList:
    """Return a page of picture jobs, whichever door they came by, newest first."""
    jobs, total = await fleet.db.read(lambda db: repository.page(db, status, JobType.IMAGE_GEN, limit, offset))
    return JobList(jobs=fleet.views.page(jobs, await fleet.callbacks.states(jobs)), total=total)


@router.post("/jobs/stop-all", summary="Cancel every job that waits or runs")
async def stop_all(fleet: Fleet) -> CancelledCount:
    """Cancel every job that waits or runs."""
    return CancelledCount(cancelled=await fleet.jobs.cancel_open())


@router.get("/jobs/{job_id}", summary="One job", responses=documented(404), response_model_exclude_none=True)
async def get_job(fleet: Fleet, job_id: JobId, explain: Explain = False) -> JobView:
    """Return a job: its place while it waits, its progress while it runs, its result or error once it has ended."""
    job = await fleet.jobs.get(job_id)
    tries = await fleet.db.read(lambda db: repository.attempts_of(db, job_id)) if explain else None
    return fleet.views.show(job, await fleet.callbacks.states([job]), explained=tries)


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job", responses=documented(404, 409))
async def cancel(fleet: Fleet, job_id: JobId) -> Cancelled:
    """Cancel a job that waits or runs; its node stops within a step."""
    job = await fleet.jobs.cancel(job_id)
    return Cancelled(job_id=job.id, status=job.state)


@router.get("/queue", summary="The waiting jobs by position", responses=documented(400))
async def queue(fleet: Fleet, limit: Limit = 50, offset: Offset = 0) -> QueueView:
    """Return the waiting jobs in the order in which they are due, with the predicted seconds until each starts."""
    return QueueView(queue=fleet.views.queue(limit, offset), length=len(fleet.jobs.index))


@router.get("/schedulers", summary="The samplers")
async def schedulers(fleet: Fleet) -> Schedulers:
    """Return the samplers that enrolled agents serve."""
    return Schedulers(schedulers=fleet.catalogue.schedulers())


@router.get("/aspect-ratios", summary="Shapes of pictures")
async def aspect_ratios() -> AspectRatios:
    """Return the shapes that SDXL was trained at, about a million pixels each."""
    return AspectRatios(ratios=[AspectRatio(name=name, width=width, height=height) for name, width, height in ASPECT_RATIOS])


def _vision_node(fleet: State, node: LiveNode) -> VisionNode:
    held = [lease for lease in (fleet.open_leases.find(job_id) for job_id in node.jobs) if lease is not None]
    current = held[0] if held else None
    return VisionNode(
        node_id=node.id, status=node.vision_status, loaded_model=node.loaded_model if node.online else None,
        current_job=current.job.id if current else None, progress=percent_of(current.job) if current else 0, queue=len(held), url=None,
        unavailable=node.barred(fleet.clock.monotonic()),
    )  # fmt: skip
