"""Chapter: network, the part that makes nodes of machines."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from fleet_api.access.addresses import own_addresses
from fleet_api.deps import CallerNamed, Fleet
from fleet_api.errors import documented
from fleet_api.nodes.bodies import JoinAllBody, JoinBody
from fleet_api.nodes.joining import SSH_PORT, candidates
from fleet_api.operations.models import Operation
from fleet_api.operations.schemas import Started

router = APIRouter(prefix="/api/network", tags=["network"])

Check = Annotated[bool, Query(description="A plan with differences: change nothing")]


@router.post("/join", status_code=201, summary="Make a node of a machine", responses=documented(400, 404, 409, 413, 429, 503))
async def join(fleet: Fleet, caller: CallerNamed, body: JoinBody, check: Check = False) -> Started:
    """Onboard one machine over SSH: install, configure, enrol. The first contact pins its host key."""
    return _started(await fleet.onboarding.join(body, caller.name, checking=check))


@router.post(
    "/auto-join-all", status_code=201, summary="Make nodes of all machines found", responses=documented(400, 404, 409, 413, 429, 503)
)
async def auto_join_all(fleet: Fleet, caller: CallerNamed, body: JoinAllBody) -> Started:
    """Onboard every machine of the last scan that is open to SSH, no node yet and not on its way already; each by its own operation."""
    found = candidates(fleet.scanner.last(), fleet.nodes, own_addresses(), fleet.onboarding.coming(SSH_PORT))
    return _started(await fleet.joining_all.start(found, body.credential_id, body.cluster, caller.name))


def _started(row: Operation) -> Started:
    return Started(status=row.state, message=row.title, operation_id=row.id)
