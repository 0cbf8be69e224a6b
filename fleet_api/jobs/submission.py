"""What a door hands to the queue: a job whose every value is settled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fleet_api.jobs.states import JobType


@dataclass(slots=True)
class NewJob:
    """A job to be queued. ``door`` is where it came in: ``vision``, ``queue`` or ``fleet``."""

    door: str
    job_type: JobType
    payload: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    priority: int = 0
    front: bool = False
    cluster: str | None = None
    node: str | None = None
    callback_url: str | None = None
    max_retries: int = 3
    timeout_seconds: float = 3600
