"""Chapter: swarm, the part about its services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from fleet_api.deps import CallerNamed, Fleet
from fleet_api.errors import FleetError, documented
from fleet_api.routes.swarm import aged
from fleet_api.routes.waiting import WaitSeconds, done
from fleet_api.services.running.schemas import (
    REPLICAS,
    Deployed,
    Removed,
    ScaleBody,
    ServiceBody,
    ServiceChange,
    ServiceDetail,
    ServiceLogs,
    ServiceView,
)
from fleet_api.services.running.service import scale_wanted

router = APIRouter(prefix="/api/swarm/services", tags=["swarm"])

ServiceId = Annotated[str, Path(description="A service's id or name", examples=["vision-sdxl"])]
Tail = Annotated[int, Query(ge=1, le=10_000, description="Lines of each task")]
Force = Annotated[bool, Query(description="Go on where no node can hold it now")]
ERRORS = documented(400, 404, 409, 413, 503)
LOG_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/json": {}, "text/plain": {"schema": {"type": "string"}}},
        "description": "The logs; with ?follow=true a stream",
    }
}


@router.get("", summary="Services of the swarm", responses=documented(503))
async def list_services(fleet: Fleet, response: Response) -> list[ServiceView]:
    """Return every service by name. The header Age is there where no manager can answer, and says how old the list is."""
    found = await fleet.running.every()
    aged(response, found)
    return found.value


@router.post("", status_code=201, summary="Run a service", responses=documented(400, 404, 409, 413, 429, 503, 504))
async def create_service(
    fleet: Fleet,
    caller: CallerNamed,
    body: ServiceBody,
    force: Force = False,
    wait: Annotated[bool, Query(description="Answer when its tasks run, or it is known that they do not")] = False,
    timeout: WaitSeconds = 120.0,
) -> ServiceDetail:
    """Make a service. What no node of the swarm can hold is refused with the reason."""
    if not wait:
        return await fleet.running.create(body, force=force)
    fleet.running.check_new(body)
    await fleet.running.check_free(body.name)
    request = {"service": body.model_dump()}
    row = await done(fleet, (await fleet.deploying.start("create", body.name, request, caller.name, force=force)).id, timeout)
    return (await fleet.running.get(row.result["service_id"])).value


@router.get("/{service_id}", summary="One service", responses=documented(404, 409, 503))
async def get_service(fleet: Fleet, response: Response, service_id: ServiceId) -> ServiceDetail:
    """Return a service with its tasks, and their errors and exit codes."""
    found = await fleet.running.get(service_id)
    aged(response, found)
    return found.value


@router.post("/{service_id}/scale", summary="Scale a service", responses=ERRORS)
async def scale(
    fleet: Fleet,
    service_id: ServiceId,
    body: ScaleBody | None = None,
    replicas: Annotated[int | None, Query(ge=0, le=REPLICAS, description="Instead of the body")] = None,
    force: Force = False,
) -> ServiceDetail:
    """Set how many tasks a service has, by the body or by the query."""
    return await fleet.running.scale(service_id, scale_wanted(body.replicas if body else None, replicas), force=force)


@router.post("/{service_id}/update", summary="Update a service", responses=documented(400, 404, 409, 413, 429, 503, 504))
async def update(
    fleet: Fleet, caller: CallerNamed, service_id: ServiceId, body: ServiceChange, force: Force = False, timeout: WaitSeconds = 120.0
) -> Deployed:
    """Change a service, and answer when Swarm has: completed, rolled_back or failed, with the error of the task that did not run."""
    return await _deployed(fleet, "update", service_id, {"change": body.model_dump(exclude_none=True)}, caller.name, force, timeout)


@router.post("/{service_id}/rollback", summary="Take the last update back", responses=documented(400, 404, 409, 429, 503, 504))
async def rollback(fleet: Fleet, caller: CallerNamed, service_id: ServiceId, timeout: WaitSeconds = 120.0) -> Deployed:
    """Bring a service back to what it was before its last update, and answer when Swarm has."""
    return await _deployed(fleet, "rollback", service_id, {}, caller.name, False, timeout)


@router.get(
    "/{service_id}/logs",
    summary="Logs of a service",
    response_model=ServiceLogs,
    responses={**LOG_STREAM, **documented(400, 404, 409, 429, 503)},
)
async def logs(
    fleet: Fleet,
    service_id: ServiceId,
    tail: Tail = 100,
    follow: Annotated[bool, Query(description="Stream them as text, as they come")] = False,
) -> ServiceLogs | Response:
    """Return the last lines of every task, on whichever node it runs."""
    if not follow:
        found, text = await fleet.service_logs.last(service_id, tail)
        return ServiceLogs(service_id=found, logs=text)
    stream = await fleet.service_logs.follow(service_id, tail)

    async def pieces() -> AsyncIterator[bytes]:
        try:
            async with stream as lines:
                async for line in lines:
                    yield line
        except FleetError as error:  # the answer has begun: its last line says why it ends
            yield f"{error.detail}\n".encode()

    return StreamingResponse(pieces(), media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})


@router.delete("/{service_id}", summary="Remove a service", responses=documented(404, 409, 503))
async def remove(fleet: Fleet, service_id: ServiceId) -> Removed:
    """Remove a service and its tasks."""
    found, name = await fleet.running.remove(service_id)
    return Removed(status="removed", id=found, name=name)


async def _deployed(
    fleet: Fleet, action: str, service_id: str, request: dict[str, Any], caller: str, force: bool, timeout: float
) -> Deployed:
    service, _ = await fleet.running.raw(service_id)
    row = await fleet.deploying.start(action, service["Spec"]["Name"], request, caller, force=force)
    ended = await fleet.operations.wait(row.id, timeout)
    if "status" not in ended.result:
        await done(fleet, row.id, timeout)
    return Deployed(**{**ended.result, "operation_id": row.id})
