"""From a job's row to what callers see, with what only the memory knows: position, step, possibility."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fleet_api.jobs.held import OpenLeases
from fleet_api.jobs.leases import percent_of
from fleet_api.jobs.models import Attempt, Job
from fleet_api.jobs.schemas import JobView, QueueEntry
from fleet_api.jobs.service import JobService
from fleet_api.jobs.shown import attempt_view, of_row, why_there
from fleet_api.jobs.states import JobState
from fleet_api.kit.clock import rfc3339


class JobViews:
    """Shows jobs."""

    def __init__(self, jobs: JobService, leases: OpenLeases) -> None:
        self._jobs = jobs
        self._leases = leases

    def page(self, jobs: list[Job], callbacks: Mapping[str, str]) -> list[JobView]:
        """Return jobs as callers see them; ``callbacks`` are the states of their messages, by job."""
        why = self._jobs.impossibilities()
        return [self._show(job, why, callbacks) for job in jobs]

    def show(
        self, job: Job, callbacks: Mapping[str, str], attempts: list[Attempt] | None = None, explained: list[Attempt] | None = None
    ) -> JobView:
        """Return a job as callers see it; with the history of its attempts, if given, and in words why it waits or went where it did."""
        view = self._show(job, self._jobs.impossibilities(), callbacks)
        view.history = [attempt_view(each) for each in attempts] if attempts is not None else None
        if explained is not None:
            view.explanation = self._jobs.explain(job.id) if job.state == JobState.QUEUED else why_there(explained)
        return view

    def _show(self, job: Job, why: Callable[[Job], str | None], callbacks: Mapping[str, str]) -> JobView:
        view = of_row(job, callbacks.get(job.id))
        match job.state:
            case JobState.QUEUED:
                view.queue_position = self._jobs.index.position(job.id) or 1
                view.reason = why(job)
                view.is_possible = view.reason is None
                [view.wait_seconds] = self._jobs.waits.of(job.id) if view.is_possible else [None]
                view.overtaken = self._jobs.index.waiting.overtaken(job.id)
            case JobState.PROCESSING:
                lease = self._leases.find(job.id)
                view.progress = percent_of(lease.job if lease is not None else job)
                view.preview = lease.preview_step if lease is not None else None
                view.node_id = job.node_id
                view.is_possible = True
        return view

    def queue(self, limit: int, offset: int) -> list[QueueEntry]:
        """Return a slice of the waiting jobs by position."""
        entries = self._jobs.index.page(limit, offset)
        positions = range(offset + 1, offset + 1 + len(entries))
        return [
            QueueEntry(
                job_id=entry.job.id, position=position, model=entry.job.model, priority=entry.job.priority, status=str(JobState.QUEUED),
                wait_seconds=wait, created_at=rfc3339(entry.created_at),
            )
            for position, entry, wait in zip(positions, entries, self._jobs.waits.of(*(entry.job.id for entry in entries)), strict=True)
        ]  # fmt: skip
