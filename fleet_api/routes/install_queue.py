"""Chapter: install_queue."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from fleet_api.deps import CallerNamed, Fleet
from fleet_api.errors import NotFound, documented
from fleet_api.lifespan import State
from fleet_api.nodes.bodies import InstallBody, JoinBody
from fleet_api.nodes.install_queue import Cleared, InstallJob, InstallQueue, Retried
from fleet_api.nodes.onboarding import ONBOARD
from fleet_api.operations.models import Operation
from fleet_api.operations.states import ENDED, RETRIABLE

router = APIRouter(prefix="/api/install-queue", tags=["install_queue"])

InstallId = Annotated[str, Path(description="An entry's id", examples=["550e8400-e29b-41d4-a716-446655440000"])]


@router.post("/queue", status_code=201, summary="Queue a machine for onboarding", responses=documented(400, 404, 409, 413, 429, 503))
async def add(fleet: Fleet, caller: CallerNamed, body: InstallBody) -> InstallJob:
    """Queue a machine; several are onboarded at a time, each by an operation of its own."""
    join = JoinBody(ip=body.host, credential_id=body.credential_id, cluster=body.cluster)
    return InstallJob.of(await fleet.onboarding.join(join, caller.name))


@router.get("/queue", summary="Machines on their way")
async def queue(fleet: Fleet) -> InstallQueue:
    """Return every entry that nobody has cleared away, oldest first."""
    return InstallQueue(jobs=[InstallJob.of(row) for row in await fleet.operations.of_kind(ONBOARD)])


@router.delete("/queue", summary="Clear the queue")
async def clear(fleet: Fleet, force: Annotated[bool, Query(description="Cancel what waits or runs, too")] = False) -> Cleared:
    """Clear finished entries away; what waits or runs stays unless it is forced, which cancels it."""
    unfinished = [row for row in fleet.operations.unfinished() if row.kind == ONBOARD]
    if force:
        for row in unfinished:
            if row.state not in ENDED:
                await fleet.operations.cancel(row.id)
    cleared = await fleet.operations.dismiss_ended(ONBOARD)
    return Cleared(cleared=cleared, cancelled=len(unfinished) if force else 0, running=0 if force else len(unfinished))


@router.post("/queue/retry-failed", status_code=201, summary="Try every failed machine again", responses=documented(429))
async def retry_failed(fleet: Fleet, caller: CallerNamed) -> Retried:
    """Queue every machine again whose last onboarding failed, was cancelled or was lost."""
    latest = {(row.request["ip"], row.request.get("ssh_port")): row for row in await fleet.operations.of_kind(ONBOARD)}
    rows = [await fleet.operations.retry(row.id, caller.name) for row in latest.values() if row.state in RETRIABLE]
    return Retried(retried=len(rows), jobs=[InstallJob.of(row) for row in rows])


@router.get("/queue/{job_id}", summary="One machine on its way", responses=documented(404))
async def entry(fleet: Fleet, job_id: InstallId) -> InstallJob:
    """Return one entry with its step, progress and error."""
    return InstallJob.of(await _entry(fleet, job_id))


@router.post("/queue/{job_id}/retry", status_code=201, summary="Try a machine again", responses=documented(404, 409, 429))
async def retry(fleet: Fleet, caller: CallerNamed, job_id: InstallId) -> InstallJob:
    """Queue a machine again; the answer is the new entry."""
    await _entry(fleet, job_id)
    return InstallJob.of(await fleet.operations.retry(job_id, caller.name))


async def _entry(fleet: State, job_id: str) -> Operation:
    row = await fleet.operations.get(job_id)
    if row.kind != ONBOARD:
        raise NotFound(f"There is no entry {job_id!r} in the install queue.")
    return row
