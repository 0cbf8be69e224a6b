"""Chapter: queue."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from fleet_api.deps import Explain, Fleet, JobId, Limit, Offset, OnceKey, caller_id, charge
from fleet_api.errors import NotFound, documented
from fleet_api.jobs import repository
from fleet_api.jobs.following import follow
from fleet_api.jobs.models import Job
from fleet_api.jobs.schemas import BatchBody, BatchSubmitted, Cancelled, JobList, JobView, QueueJobBody, QueueStats, Submitted
from fleet_api.jobs.states import JobState, JobType, priority_name
from fleet_api.kit.sse import STILL_HERE, sse, streamed
from fleet_api.lifespan import State

router = APIRouter(prefix="/api/queue", tags=["queue"])

THROUGHPUT_MINUTES = 5

STREAM = streamed("One event of the stream; data is JSON: the job for snapshot and ended, where it stands for state and progress")

PREVIEW = {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}

StateFilter = Annotated[JobState | None, Query(alias="status", description="Only jobs in this state")]
TypeFilter = Annotated[JobType | None, Query(description="Only jobs of this type")]


@router.post("/jobs", status_code=201, summary="Queue a job", responses=documented(400, 404, 409, 413, 422, 429, 503))
async def submit(fleet: Fleet, request: Request, body: QueueJobBody, once: OnceKey) -> Submitted:
    """Queue a job. It is on disk when this answers."""
    [job] = await fleet.jobs.submit([fleet.doors.queued(body)], once, caller_id(request))
    return _submitted(fleet, job)


@router.post(
    "/jobs/batch", status_code=201, summary="Queue several jobs, all or none", responses=documented(400, 404, 409, 413, 422, 429, 503)
)
async def submit_batch(fleet: Fleet, request: Request, body: BatchBody, once: OnceKey) -> BatchSubmitted:
    """Queue up to 1,000 jobs; if one of them is refused, none is queued."""
    new = [fleet.doors.queued(each, f"jobs.{i}.") for i, each in enumerate(body.jobs)]
    jobs = await fleet.jobs.submit(new, once, caller_id(request))
    charge(fleet, request, len(jobs))
    return BatchSubmitted(job_ids=[job.id for job in jobs], created=len(jobs))


@router.get("/jobs", summary="Jobs, newest first", responses=documented(400), response_model_exclude_none=True)
async def list_jobs(
    fleet: Fleet, status: StateFilter = None, job_type: TypeFilter = None, limit: Limit = 50, offset: Offset = 0
) -> JobList:
    """Return a page of jobs of every kind, newest first."""
    jobs, total = await fleet.db.read(lambda db: repository.page(db, status, job_type, limit, offset))
    return JobList(jobs=fleet.views.page(jobs, await fleet.callbacks.states(jobs)), total=total)


@router.get("/stats", summary="The queue in figures")
async def stats(fleet: Fleet) -> QueueStats:
    """Return jobs by state, type and priority, the throughput of the last five minutes, and the age of the oldest that waits."""
    now = fleet.clock.now()
    rows = await fleet.db.read(repository.counts)
    done = await fleet.db.read(lambda db: repository.completed_since(db, now - 60 * THROUGHPUT_MINUTES))
    oldest = fleet.jobs.index.oldest()
    states = dict.fromkeys(JobState, 0)
    by_type = dict.fromkeys(JobType, 0)
    by_priority = {"high": 0, "normal": 0, "low": 0}
    for state, job_type, priority, number in rows:
        states[JobState(state)] += number
        by_type[JobType(job_type)] += number
        by_priority[priority_name(priority)] += number
    return QueueStats(
        **{str(state): number for state, number in states.items()},
        by_type={str(kind): number for kind, number in by_type.items() if number},
        by_priority=by_priority,
        throughput_per_minute=done / THROUGHPUT_MINUTES,
        oldest_queued_seconds=round(max(0.0, now - oldest), 3) if oldest is not None else 0.0,
    )


@router.get("/jobs/{job_id}", summary="One job", responses=documented(404), response_model_exclude_none=True)
async def get_job(fleet: Fleet, job_id: JobId, explain: Explain = False) -> JobView:
    """Return a job with its attempts."""
    job, attempts = await fleet.db.read(lambda db: (repository.get(db, job_id), repository.attempts_of(db, job_id)))
    if job is None:
        raise NotFound(f"There is no job {job_id!r}.")
    return fleet.views.show(job, await fleet.callbacks.states([job]), attempts, attempts if explain else None)


@router.get("/jobs/{job_id}/events", summary="What happens to a job, as it comes", response_class=StreamingResponse,
            responses={**STREAM, **documented(404)})  # fmt: skip
async def events(fleet: Fleet, job_id: JobId) -> StreamingResponse:
    """Stream a snapshot of the job, then its states and its progress, then how it ended; the stream closes with that.

    Events have no numbers: a reader that was cut off comes again and begins with a fresh snapshot.
    """
    await fleet.jobs.get(job_id)
    return StreamingResponse(_stream(fleet, job_id), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _stream(fleet: State, job_id: str) -> AsyncIterator[str]:
    async for told in follow(fleet.jobs, fleet.bus, job_id):
        if told is None:
            yield STILL_HERE
        elif told.job is None:
            yield sse(told.name, json.dumps(told.data))
        else:
            view = fleet.views.show(told.job, await fleet.callbacks.states([told.job]))
            yield sse(told.name, view.model_dump_json(exclude_none=True))


@router.get("/jobs/{job_id}/preview", summary="How far a picture is", response_class=Response,
            responses={200: {**PREVIEW, "description": "The last preview"}, **documented(404)})  # fmt: skip
async def preview(fleet: Fleet, job_id: JobId) -> Response:
    """Return a small picture of the one in the making; jobs that were submitted with ``preview_every`` have one while they run.

    Its coming is told: ``preview`` in the job's progress is the step that it shows.
    """
    job = await fleet.jobs.get(job_id)
    jpeg = fleet.leases.preview_of(job_id)
    if jpeg is None:
        raise NotFound(f"The job {job_id!r} has no preview: it is {job.state}" + (
            ", or was submitted without preview_every, or has not got that far." if job.state == JobState.PROCESSING else "."
        ))  # fmt: skip
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.delete("/jobs/{job_id}", summary="Cancel a job", responses=documented(404, 409))
async def cancel(fleet: Fleet, job_id: JobId) -> Cancelled:
    """Cancel a job that waits or runs; its node stops within a step."""
    job = await fleet.jobs.cancel(job_id)
    return Cancelled(job_id=job.id, status=job.state)


@router.post("/jobs/{job_id}/retry", summary="Queue a failed or cancelled job again", responses=documented(404, 409))
async def retry(fleet: Fleet, job_id: JobId) -> Submitted:
    """Queue a failed or cancelled job again under its own id, with its failures forgotten."""
    return _submitted(fleet, await fleet.jobs.retry(job_id))


def _submitted(fleet: State, job: Job) -> Submitted:
    return Submitted(
        job_id=job.id, status=job.state, job_type=job.job_type, priority=priority_name(job.priority),
        queue_position=fleet.jobs.index.position(job.id),
    )  # fmt: skip
