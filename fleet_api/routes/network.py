"""Chapter: network, the part that finds machines."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from fleet_api.deps import Fleet
from fleet_api.errors import documented
from fleet_api.nodes.discovery.schemas import ScanView, StatusView

router = APIRouter(prefix="/api/network", tags=["network"])


@router.get("/scan", summary="Scan a subnet for machines", responses=documented(400))
async def scan(
    fleet: Fleet,
    subnet: Annotated[
        str | None, Query(max_length=64, description="An IPv4 network from /20 to /32; else this machine's own", examples=["192.0.2.0/24"])
    ] = None,
    refresh: Annotated[bool, Query(description="Scan anew, also where the last scan is younger than a minute")] = False,
    thorough: Annotated[bool, Query(description="Every port of every address: slower, finds machines that drop calls to port 22")] = False,
) -> ScanView:
    """Return the machines of a subnet: who answers, on which of the fleet's ports, with what is known of them from outside.

    Those who ask for the same subnet at once share one scan; it is kept for a minute.
    """
    return ScanView.of(*await fleet.scanner.scan(subnet or None, refresh, thorough))


@router.get("/scan-status", summary="How far the scan is")
async def scan_status(fleet: Fleet) -> StatusView:
    """Return how far the scan is that runs, or how the last one went."""
    return StatusView.of(fleet.scanner.status)
