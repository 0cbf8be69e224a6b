"""One job as it goes: a snapshot, then what is told of it, then its end.

What happened before a reader came is in the snapshot; there is no log of events to go on from, so a reader that comes again, or fell
behind, begins with a fresh one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from fleet_api.jobs.models import Job
from fleet_api.jobs.service import JobService
from fleet_api.jobs.states import ENDED
from fleet_api.kit.bus import Bus

TYPES = frozenset({"job_progress", "job_complete"})
KEEP_ALIVE_SECONDS = 15.0

Name = Literal["snapshot", "progress", "state", "ended"]


@dataclass(frozen=True, slots=True)
class Told:
    """One event. ``job`` is there for a snapshot and for the end, ``data`` for what comes between."""

    name: Name
    data: dict[str, Any]
    job: Job | None = None


async def follow(jobs: JobService, bus: Bus, job_id: str) -> AsyncIterator[Told | None]:
    """Yield what happens to a job until it has ended; None now and then while nothing does. Raises NotFound before the first.

    Ends without an ``ended`` where the reader fell too far behind, or the control plane stops.
    """
    with bus.subscribe(TYPES) as subscription:  # before the snapshot is read, so that nothing between the two is missed
        job = await jobs.get(job_id)
        state = str(job.state)
        yield Told("snapshot", {}, job)
        events = aiter(subscription)
        coming: asyncio.Task[str] | None = None
        try:
            while job.state not in ENDED:
                coming = coming or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({coming}, timeout=KEEP_ALIVE_SECONDS)
                if not done:
                    yield None
                    continue
                try:
                    text = coming.result()
                except StopAsyncIteration:
                    return
                coming = None
                if job_id not in text:
                    continue
                event = json.loads(text)
                data = event["data"]
                if data["job_id"] != job_id:
                    continue
                if event["type"] == "job_complete":
                    job = await jobs.get(job_id)
                    continue
                now = str(data.get("status", "processing"))
                if now != state:
                    state = now
                    yield Told("state", {"job_id": job_id, "status": now, "node_id": data.get("node_id")})
                if now == "processing":
                    yield Told("progress", data)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
        yield Told("ended", {}, job)
