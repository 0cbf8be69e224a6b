"""Chapter: fleet. Connect, status, and the picture that comes back in the same request."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from fleet_api.access.callers import caller_of, found
from fleet_api.deps import Fleet, OnceKey, caller_id
from fleet_api.errors import Conflict, Timeout, Unauthorized, Unavailable, documented
from fleet_api.jobs.images import FleetGenerateBody
from fleet_api.jobs.models import Job
from fleet_api.jobs.states import JobState
from fleet_api.kit.disconnect import CallerGone, while_connected
from fleet_api.kit.fields import RequestBody, Text
from fleet_api.lifespan import State
from fleet_api.routes.summaries import JobCounts, NodeCounts, VisionSummary, job_counts, node_counts, vision_summary
from fleet_api.storage.service import StoreState
from fleet_api.version import __version__

router = APIRouter(prefix="/api/fleet", tags=["fleet"])

CAPABILITIES = ["nodes", "containers", "images", "generation", "ssh", "metrics", "vision"]


class ConnectBody(RequestBody):
    """``api_key`` is one way to show a key; it is ignored where none is wanted."""

    api_key: Text | None = Field(None, max_length=500)


class Connected(BaseModel):
    """The answer to a connect."""

    status: str = Field(examples=["connected"])
    message: str
    version: str
    capabilities: list[str]


class FleetStatus(BaseModel):
    """The fleet in figures, with its vision workers."""

    status: str
    version: str
    nodes: NodeCounts
    jobs: JobCounts
    vision: VisionSummary
    storage: StoreState


class Capabilities(BaseModel):
    """What the API covers."""

    capabilities: list[str]


class GenerateStatus(BaseModel):
    """Whether a picture could be made now."""

    available: bool
    nodes: int
    queue_length: int


def _connected() -> Connected:
    return Connected(
        status="connected", message="Successfully connected to Fleet Commander", version=__version__, capabilities=CAPABILITIES
    )


@router.post("/connect", summary="Connect", responses=documented(400, 401, 413))
async def connect(fleet: Fleet, request: Request, body: ConnectBody | None = None) -> Connected:
    """Answer who is here to a caller who may know: with a key in ``api_key`` or a header, or from this machine."""
    if caller_of(request) is None:
        if body is None or body.api_key is None:
            raise Unauthorized("This wants a key: send it as api_key, or as 'Authorization: Bearer <key>'.")
        found(request, await fleet.keys.caller_with_key(body.api_key, request.client.host if request.client else ""))
    return _connected()


@router.get("/connect", summary="Connect")
async def connect_get() -> Connected:
    """Answer who is here."""
    return _connected()


@router.get("/status", summary="The fleet in figures", responses=documented(503))
async def fleet_status(fleet: Fleet) -> FleetStatus:
    """Return nodes, jobs and vision workers in figures."""
    return FleetStatus(
        status="healthy", version=__version__, nodes=node_counts(fleet), jobs=await job_counts(fleet), vision=vision_summary(fleet),
        storage=await fleet.storage.state(),
    )  # fmt: skip


@router.get("/capabilities", summary="What the API covers")
async def capabilities() -> Capabilities:
    """Return the documents' list of capabilities."""
    return Capabilities(capabilities=CAPABILITIES)


@router.get("/generate/status", summary="Could a picture be made now")
async def generate_status(fleet: Fleet) -> GenerateStatus:
    """Return whether a node with the default model is online, how many vision workers are, and how many jobs wait."""
    summary = vision_summary(fleet)
    return GenerateStatus(available=fleet.catalogue.ready(), nodes=summary.online_nodes, queue_length=summary.queue_length)


@router.post(
    "/generate",
    summary="Make a picture and return it",
    response_class=FileResponse,
    responses={
        200: {
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "description": "The picture",
            "headers": {
                "X-Seed": {"description": "The seed used", "schema": {"type": "string"}},
                "X-Filename": {"description": "Its name among the outputs", "schema": {"type": "string"}},
            },
        },
        **documented(400, 404, 413, 429, 503, 504),
    },
)
async def generate(fleet: Fleet, body: FleetGenerateBody, request: Request, once: OnceKey) -> FileResponse:
    """Queue a picture ahead of the others of normal priority, wait for it, and return it as a PNG.

    A caller that hangs up cancels the job.
    """
    [job] = await fleet.jobs.submit(fleet.doors.picture(body, "fleet", front=True), once, caller_id(request))
    try:
        ended = await while_connected(request, fleet.jobs.wait_ended(job.id), timeout=fleet.settings.generate_timeout)
    except TimeoutError:
        await _cancel(fleet, job)
        raise Timeout(f"The picture was not ready within {fleet.settings.generate_timeout:g} s; its job was cancelled.") from None
    except (CallerGone, asyncio.CancelledError):
        await asyncio.shield(_cancel(fleet, job))
        raise Unavailable("The caller hung up.") from None
    except Unavailable:  # the control plane is stopping, and nobody would get the picture
        await _cancel(fleet, job)
        raise
    if ended.state != JobState.COMPLETED or ended.result is None:
        raise Unavailable(ended.error or f"The job was {ended.state}.")
    filename = ended.result["image_url"].rsplit("/", 1)[-1]
    headers = {"X-Seed": str(ended.result["seed"]), "X-Filename": filename, "X-Job-Id": ended.id, "X-Node-Id": ended.node_id or ""}
    return FileResponse(await fleet.outputs.find(filename), media_type="image/png", headers=headers)


async def _cancel(fleet: State, job: Job) -> None:
    current = await fleet.jobs.get(job.id)
    if current.state in (JobState.QUEUED, JobState.PROCESSING):
        with contextlib.suppress(Conflict):  # it ended in this moment
            await fleet.jobs.cancel(job.id)
