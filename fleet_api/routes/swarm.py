"""Chapter: swarm, the part about its members."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from fleet_api.deps import CallerNamed, Fleet
from fleet_api.errors import documented
from fleet_api.routes.waiting import WaitSeconds, done
from fleet_api.services.swarm.managers import Answer
from fleet_api.services.swarm.schemas import (
    AvailabilityBody,
    JoinedRemote,
    JoinRemoteBody,
    JoinToken,
    LabelsBody,
    RoleBody,
    SwarmNode,
    SwarmRole,
    SwarmStatus,
)

router = APIRouter(prefix="/api/swarm", tags=["swarm"])

Member = Annotated[str, Path(description="Docker's id of a member, the fleet's id of its node, or its host name", examples=["agx0"])]
TokenRole = Annotated[SwarmRole, Query(description="What the machine shall be")]
ERRORS = documented(400, 404, 409, 413, 503)


def aged(response: Response, answer: Answer[Any]) -> None:
    """Say how old a list is that no manager could be asked for."""
    if answer.why:
        response.headers["Age"] = str(max(1, round(answer.age)))


@router.get("/status", summary="The swarm in figures", responses=documented(503))
async def status(fleet: Fleet) -> SwarmStatus:
    """Return the swarm in figures. Where no manager can answer, what is known of it, with its age."""
    return await fleet.swarm.status()


@router.get("/nodes", summary="Members of the swarm", responses=documented(503))
async def nodes(fleet: Fleet, response: Response) -> list[SwarmNode]:
    """Return every member. The header Age is there where no manager can answer, and says how old the list is."""
    found = await fleet.swarm.nodes()
    aged(response, found)
    return found.value


@router.get("/join-token", summary="What machines join with", responses=documented(400, 409, 503))
async def join_token(fleet: Fleet, response: Response, role: TokenRole = "worker") -> JoinToken:
    """Return the token by which a machine joins the swarm. It is a secret: it is shown here alone, and never logged."""
    response.headers["Cache-Control"] = "no-store"
    return JoinToken(token=await fleet.swarm.token(role), role=role)


@router.post("/join-token/rotate", summary="Make the join token void", responses=documented(400, 409, 503))
async def rotate_token(fleet: Fleet, response: Response, role: TokenRole = "worker") -> JoinToken:
    """Make the token void, for members too that were to join by it, and return the new one."""
    response.headers["Cache-Control"] = "no-store"
    return JoinToken(token=await fleet.swarm.rotate_token(role), role=role)


@router.post(
    "/join-remote", status_code=201, summary="Bring a machine into the swarm", responses=documented(400, 404, 409, 413, 429, 503, 504)
)
async def join_remote(
    fleet: Fleet,
    caller: CallerNamed,
    body: JoinRemoteBody,
    timeout: WaitSeconds = 120.0,
    force: Annotated[bool, Query(description="A member of another swarm leaves it")] = False,
) -> JoinedRemote:
    """Onboard a machine where it is no node yet, and bring it into the swarm with its labels. Repeated, it changes nothing.

    A password is kept in the vault, as the control plane needs it again. Where there is no swarm, one is formed.
    """
    row = await done(fleet, (await fleet.swarm_joining.start(body, force, caller.name)).id, timeout)
    result = row.result
    return JoinedRemote(
        status="success", message=f"Node {body.node_ip} joined swarm successfully", node_id=result["node_id"],
        swarm_node_id=result["swarm_node_id"], cluster=result["cluster"], operation_id=row.id,
    )  # fmt: skip


@router.post("/nodes/{node_id}/labels", summary="Label a member", responses=ERRORS)
async def set_labels(fleet: Fleet, node_id: Member, body: LabelsBody) -> SwarmNode:
    """Set labels of a member, which services are placed by. An empty text takes a label away."""
    return await fleet.swarm.set_labels(node_id, body.labels)


@router.post("/nodes/{node_id}/role", summary="Make a member a manager or a worker", responses=ERRORS)
async def set_role(fleet: Fleet, node_id: Member, body: RoleBody) -> SwarmNode:
    """Promote or demote a member. Three managers go on when one is lost, five when two are."""
    return await fleet.swarm.set_role(node_id, body.role)


@router.post("/nodes/{node_id}/availability", summary="Let a member take tasks, or not", responses=ERRORS)
async def set_availability(fleet: Fleet, node_id: Member, body: AvailabilityBody) -> SwarmNode:
    """Drain a member before work on it, pause it, or let it take tasks again."""
    return await fleet.swarm.set_availability(node_id, body.availability)
