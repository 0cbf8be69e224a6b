"""Chapter: audit."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from fleet_api.access.schemas import AuditPage, AuditView
from fleet_api.deps import Fleet, Limit
from fleet_api.errors import documented

router = APIRouter(prefix="/api/audit", tags=["audit"])

Before = Annotated[int | None, Query(ge=1, le=2**62, description="Only entries with a smaller seq: the next page")]
CallerId = Annotated[str | None, Query(max_length=100, description="Only entries of this key, node, or local")]
Since = Annotated[AwareDatetime | None, Query(description="Only entries from then on; a time with its zone")]
Until = Annotated[AwareDatetime | None, Query(description="Only entries before then; a time with its zone")]


@router.get("", summary="Who changed what", responses=documented(400))
async def audit(
    fleet: Fleet, limit: Limit = 50, before: Before = None, caller_id: CallerId = None, since: Since = None, until: Until = None
) -> AuditPage:
    """Return a page of requests that changed something, or tried to, newest first."""
    times = [each.timestamp() if each else None for each in (since, until)]
    views = [AuditView.of(each) for each in await fleet.audit.page(limit, before, caller_id, *times)]
    return AuditPage(entries=views, next=views[-1].seq if len(views) == limit else None)
