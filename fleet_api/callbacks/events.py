"""What is written when a job with a ``callback_url`` ends: the message, in the transaction that ends it, so that no kill parts the two.

The message shows the job as it is in that moment. Later attempts, and replays, send the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from fleet_api.adapters.http_out.url import parts_of
from fleet_api.callbacks import repository
from fleet_api.callbacks.states import DeliveryState
from fleet_api.jobs import repository as jobs
from fleet_api.jobs.models import Attempt, Job
from fleet_api.jobs.shown import attempt_view, of_row
from fleet_api.jobs.states import ENDED
from fleet_api.kit.clock import rfc3339


def note_ends(db: Connection, ended: Sequence[Job], now: float) -> None:
    """Write the messages of those of the jobs that have a callback and whose rows say that they ended."""
    called = [job for job in (jobs.get(db, each.id) for each in ended if each.callback_url) if job is not None and job.state in ENDED]
    rows = [_message(job, jobs.attempts_of(db, job.id) if job.attempt else [], now) for job in called]
    if rows:
        repository.add(db, rows)


def _message(job: Job, attempts: list[Attempt], now: float) -> dict[str, Any]:
    url = job.callback_url or ""
    event = f"job.{job.state}"
    view = of_row(job, DeliveryState.PENDING)
    view.history = [attempt_view(each) for each in attempts]
    body = {"type": event, "timestamp": rfc3339(job.finished_at), "data": view.model_dump(mode="json", exclude_none=True)}
    return {
        "id": f"msg_{uuid.uuid4().hex}", "job_id": job.id, "event": event, "url": url, "host": _host(url),
        "status": DeliveryState.PENDING, "body": json.dumps(body, separators=(",", ":")), "failures": 0,
        "attempts": [], "next_attempt_at": now, "created_at": now, "delivered_at": None,
    }  # fmt: skip


def _host(url: str) -> str:
    try:
        _, host, port = parts_of(url)
    except ValueError:  # it was stored by an earlier version; the attempt will say so
        return url[:200]
    return f"{host}:{port}"
