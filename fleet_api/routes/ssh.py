"""Chapter: commands on nodes, and the host keys by which nodes are known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from fleet_api.access.audit import audited_as
from fleet_api.deps import CallerNamed, Fleet, NodeId
from fleet_api.errors import Timeout, documented
from fleet_api.kit.disconnect import CallerGone, while_connected
from fleet_api.nodes.command_schemas import (
    CommandBody,
    CommandView,
    FingerprintBody,
    HostKeyView,
    ManyBody,
    ManyOutcomes,
    NodeCommandBody,
    NodeOutcome,
)  # fmt: skip
from fleet_api.nodes.commands import Order, failed

router = APIRouter()
T = TypeVar("T")

ERRORS = documented(400, 404, 409, 413, 429, 503, 504)


@router.post("/api/ssh/exec-node", tags=["ssh"], summary="Run a command on a node", responses=ERRORS)
async def exec_node(fleet: Fleet, request: Request, body: NodeCommandBody) -> CommandView:
    """Run a command over SSH and answer when it has ended. A command that takes longer than ``timeout`` is ended, and 504."""
    return await _run(fleet, request, body.node_id, body.order())


@router.post("/api/fleet/exec/{node_id}", tags=["fleet"], summary="Run a command on a node", responses=ERRORS)
async def fleet_exec(fleet: Fleet, request: Request, node_id: NodeId, body: CommandBody) -> CommandView:
    """As ``POST /api/ssh/exec-node``."""
    return await _run(fleet, request, node_id, body.order())


@router.post("/api/ssh/exec", tags=["ssh"], summary="Run a command on many nodes", responses=ERRORS, response_model=ManyOutcomes)
async def exec_many(
    fleet: Fleet, request: Request, body: ManyBody, stream: Annotated[bool, Query(description="One JSON line a node, as each ends")] = False
) -> ManyOutcomes | Response:
    """Run a command on many nodes at once. Each has its own timeout, so that a dead one delays no other; its error stands in its result."""
    node_ids = body.node_ids or [node.id for node in fleet.nodes.of_cluster(body.cluster or "")]
    for node_id in node_ids:
        fleet.nodes.get(node_id)
    audited_as(request, f"{', '.join(node_ids)}: {body.command}")
    outcomes = fleet.commands.run_on_all(node_ids, body.order())
    if stream:

        async def lines() -> AsyncIterator[str]:
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    yield NodeOutcome.of(outcome).model_dump_json() + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def everyone() -> ManyOutcomes:
        async with aclosing(outcomes):
            found = sorted([outcome async for outcome in outcomes], key=lambda outcome: outcome.node_id)
        return ManyOutcomes(results=[NodeOutcome.of(each) for each in found], ok=len(found) - failed(found), failed=failed(found))

    return await _ended(request, everyone())


@router.post(
    "/api/nodes/{node_id}/accept-host-key",
    tags=["nodes"],
    summary="Accept a node's new SSH host key",
    responses=documented(400, 404, 409, 413),
)
async def accept_host_key(fleet: Fleet, caller: CallerNamed, node_id: NodeId, body: FingerprintBody) -> HostKeyView:
    """Trust the host key that a node showed last, and that was refused; compare its fingerprint with the machine's own first.

    A machine that is no node yet is named by its address, such as 192.0.2.10 or 192.0.2.10:2222.
    """
    host = await fleet.commands.accept_host_key(node_id, body.fingerprint, caller.name)
    return HostKeyView(node_id=node_id, host=host, fingerprint=body.fingerprint)


async def _run(fleet: Fleet, request: Request, node_id: str, order: Order) -> CommandView:
    audited_as(request, f"{node_id}: {order.command}")
    return CommandView.of(await _ended(request, fleet.commands.run(node_id, order)))


async def _ended(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await commands while the caller stays; one who leaves ends them."""
    try:
        return await while_connected(request, work)
    except CallerGone:
        raise Timeout("The caller left before the command had ended; it was stopped.") from None
