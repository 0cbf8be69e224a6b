"""What a job's row alone tells of it, as callers see it. Pure; what the memory knows beside is added in ``views.py``."""

from __future__ import annotations

from fleet_api.jobs.models import Attempt, Job
from fleet_api.jobs.schemas import AttemptView, JobView
from fleet_api.jobs.states import JobState, priority_name
from fleet_api.kit.clock import rfc3339


def of_row(job: Job, callback: str | None) -> JobView:
    """Return a job as its row shows it; ``callback`` is where its message stands."""
    view = JobView(
        job_id=job.id, status=str(job.state), job_type=str(job.job_type), priority=job.priority, created_at=rfc3339(job.created_at),
        started_at=rfc3339(job.started_at), finished_at=rfc3339(job.finished_at), model=job.model, payload=job.payload,
        error=job.error if job.state == JobState.FAILED else None, target_cluster=job.cluster, max_retries=job.max_retries,
        timeout_seconds=job.timeout_seconds, callback_url=job.callback_url, callback=callback,
        attempts=job.attempt, priority_name=priority_name(job.priority), target_node=job.target_node, overtaken=job.overtaken,
    )  # fmt: skip
    if job.state == JobState.COMPLETED:
        view.progress = 100
        view.node_id = job.node_id
        view.result = job.result
    return view


def attempt_view(attempt: Attempt) -> AttemptView:
    """Return one try at a job as callers see it."""
    return AttemptView(
        attempt=attempt.attempt, node_id=attempt.node_id, started_at=rfc3339(attempt.started_at), ended_at=rfc3339(attempt.ended_at),
        outcome=attempt.outcome, error=attempt.error, reason=attempt.reason, load_seconds=attempt.load_seconds,
    )  # fmt: skip


def why_there(attempts: list[Attempt]) -> str:
    """Return in words why the last try at a job went to its node."""
    if not attempts:
        return "It was never given to a node."
    last = attempts[-1]
    return f"Attempt {last.attempt} went to {last.node_id}: {last.reason or 'the reason was not kept'}."
