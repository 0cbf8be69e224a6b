"""What agents call. The messages, and the guarantees behind them, are in ``gpu_inference/protocol.py``."""

from __future__ import annotations

import asyncio
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.requests import ClientDisconnect

from fleet_api.access.callers import Caller, Role, found
from fleet_api.access.certificates import CA_FILE
from fleet_api.access.schemas import TokenBody, TokenView
from fleet_api.deps import Agent, AttemptNumber, Fleet, JobId
from fleet_api.errors import InvalidValue, NotFound, TooLarge, documented
from fleet_api.kit.clock import rfc3339
from fleet_api.kit.disconnect import CallerGone, while_connected
from fleet_api.kit.fields import clean_json
from gpu_inference.protocol import DIGEST_HEADER, Beat, BeatReply, Complete, EnrolReply, EnrolRequest, Fail, LeaseReply, LeaseRequest

PREVIEW_BYTES = 64 * 1024

router = APIRouter(prefix="/api/agents", tags=["agents"])


@router.get(
    "/ca",
    summary="The certificate authority",
    response_class=PlainTextResponse,
    responses={200: {"content": {"application/x-pem-file": {"schema": {"type": "string"}}}, "description": "PEM"}, **documented(404)},
)
async def certificate_authority(fleet: Fleet) -> Response:
    """Return the certificate authority of this control plane; a token's hash says whether it is the right one."""
    try:
        pem = await asyncio.to_thread((fleet.settings.tls_folder / CA_FILE).read_text)
    except FileNotFoundError:
        raise NotFound("This control plane has no certificate authority: it speaks plain HTTP, or a certificate from elsewhere.") from None
    return Response(pem, media_type="application/x-pem-file")


@router.post("/tokens", status_code=201, summary="Make an enrolment token", responses=documented(400, 409, 413, 429))
async def token(fleet: Fleet, body: TokenBody) -> TokenView:
    """Make a token with which one agent may enrol, once."""
    lifetime = body.expires_in_minutes * 60
    made = await fleet.enrolment.token(body.node_id, lifetime)
    return TokenView(token=made, node_id=body.node_id, expires_at=rfc3339(fleet.clock.now() + lifetime) or "")


@router.post("/enrol", status_code=201, summary="Enrol an agent", responses=documented(400, 401, 409))
async def enrol(fleet: Fleet, request: Request, body: EnrolRequest) -> EnrolReply:
    """Turn a single-use token into a node id and a credential."""
    reply = await fleet.enrolment.enrol(body, request.client.host if request.client else "")
    found(request, Caller("agent", reply.node_id, reply.node_id, Role.ANYONE))
    return reply


@router.post("/lease", summary="Wait for a job", responses=documented(400, 401))
async def lease(fleet: Fleet, request: Request, node: Agent, body: LeaseRequest) -> LeaseReply:
    """Answer with the next job, or with attempts to stop, or with neither once the wait is over."""
    await fleet.nodes.arrived(node, body.incarnation, body.capabilities)
    node.has(body.loaded_model, body.warm_models, body.parked_models)
    node.worker.unbuilt = frozenset(body.unbuilt_models)
    try:
        return await while_connected(request, fleet.leases.lease(node, body))
    except CallerGone:
        return LeaseReply()


@router.post("/beat", summary="Sign of life", responses=documented(400, 401))
async def beat(fleet: Fleet, request: Request, node: Agent, body: Beat) -> BeatReply:
    """Take in figures and steps, renew the leases named, and answer with attempts to stop."""
    stop = fleet.leases.beat(node, body.incarnation, body.holding)  # first: a full disk must not cost a lease
    await fleet.nodes.beat(node, checked(body, "facts"))
    fleet.fetching.hear(node, body, request.client.host if request.client else "")
    if body.capabilities is not None:
        fleet.dispatcher.wake()
    return fleet.fetching.word(node, BeatReply(stop=stop, build=fleet.engine_builds.heard(node, body.build)))


@router.put("/uploads/{job_id}/{attempt}", summary="Upload an output", responses=documented(400, 401, 410, 413, 503), status_code=204)
async def upload(
    fleet: Fleet, request: Request, node: Agent, job_id: JobId, attempt: AttemptNumber, digest: Annotated[str, Header(alias=DIGEST_HEADER)]
) -> Response:
    """Store the bytes of an attempt's output until its completion comes."""
    fleet.leases.check_upload(node, job_id, attempt)
    try:
        await fleet.outputs.stage(job_id, attempt, request.stream(), digest.lower())
    except ClientDisconnect:
        raise InvalidValue("The upload was cut off; send it again.") from None
    fleet.leases.check_uploaded(node, job_id, attempt)
    return Response(status_code=204)


@router.put("/previews/{job_id}/{attempt}", summary="Show how far a picture is", responses=documented(400, 401, 410, 413), status_code=204)
async def preview(
    fleet: Fleet, request: Request, node: Agent, job_id: JobId, attempt: AttemptNumber,
    step: Annotated[int, Query(ge=0, le=1_000_000, description="Steps done")] = 0,
) -> Response:  # fmt: skip
    """Keep a small JPEG of the picture in the making until the next one comes or the attempt ends."""
    try:
        jpeg = await request.body()
    except ClientDisconnect:
        raise InvalidValue("The preview was cut off.") from None
    if len(jpeg) > PREVIEW_BYTES:
        raise TooLarge(f"A preview may have {PREVIEW_BYTES} bytes.")
    fleet.leases.preview(node, job_id, attempt, step, jpeg)
    return Response(status_code=204)


@router.post("/complete", summary="An attempt is done", responses=documented(400, 401, 409, 410), status_code=204)
async def complete(fleet: Fleet, node: Agent, body: Complete) -> Response:
    """End an attempt with its uploaded output."""
    await fleet.leases.complete(node, checked(body, "result"))
    return Response(status_code=204)


@router.post("/fail", summary="An attempt gave nothing", responses=documented(400, 401, 410), status_code=204)
async def fail(fleet: Fleet, node: Agent, body: Fail) -> Response:
    """End an attempt with its reason; the job is queued again while it has retries left."""
    await fleet.leases.fail(node, body)
    return Response(status_code=204)


Word = TypeVar("Word", Beat, Complete)


def checked(word: Word, field: str) -> Word:
    """Return an agent's word. Raises InvalidValue for free JSON in it that could not be stored and shown again."""
    try:
        clean_json(getattr(word, field))
    except ValueError as error:
        raise InvalidValue(f"{field} {error}.") from None
    return word
