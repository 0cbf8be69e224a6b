"""Chapter: metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from fleet_api import exposition
from fleet_api.deps import Fleet
from fleet_api.errors import documented

router = APIRouter(tags=["health"])


@router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse, responses=documented(503))
async def prometheus(fleet: Fleet) -> Response:
    """Return requests, jobs by state and type, queue age, leases, nodes and events in Prometheus' text format."""
    return Response(await exposition.render(fleet), media_type=CONTENT_TYPE_LATEST)
