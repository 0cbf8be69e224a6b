"""The open leases in memory: a cache of the rows in state ``processing``, with when each was last heard."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_api.jobs.models import Job


@dataclass(slots=True)
class OpenLease:
    """An attempt at work. ``heard``, ``started`` and ``loading`` (since when it loads a model) are monotonic seconds.

    ``together`` is how many were given together, this one among them. ``preview`` is a small JPEG of the picture in the making, of which
    there is one a lease and no copy elsewhere; ``preview_step`` is the step that it shows.
    """

    job: Job
    heard: float
    started: float
    together: int = 1
    loading: float | None = None
    load_seconds: float | None = None
    preview: bytes | None = None
    preview_step: int | None = None

    def phase(self, name: str, now: float) -> float | None:
        """Note what the agent is at; return the seconds that a load took which has ended with this."""
        if name == "loading":
            self.loading = self.loading if self.loading is not None else now
            return None
        if self.loading is None:
            return None
        took, self.loading = now - self.loading, None
        self.load_seconds = (self.load_seconds or 0.0) + took
        return took

    @property
    def node_id(self) -> str:
        """The node that holds it."""
        return self.job.node_id or ""


class OpenLeases:
    """Open leases by job."""

    def __init__(self) -> None:
        self._by_job: dict[str, OpenLease] = {}

    def __len__(self) -> int:
        return len(self._by_job)

    def open(self, job: Job, now: float, together: int = 1) -> None:
        """Note a lease that was just granted, one of so many, or found at start: it gets a full term."""
        self._by_job[job.id] = OpenLease(job, now, now, together)

    def close(self, job_id: str, attempt: int) -> None:
        """Forget an attempt."""
        lease = self._by_job.get(job_id)
        if lease is not None and lease.job.attempt == attempt:
            del self._by_job[job_id]

    def get(self, job_id: str, attempt: int, node_id: str, incarnation: str) -> OpenLease | None:
        """Return the lease if it is this agent's open attempt."""
        lease = self._by_job.get(job_id)
        if lease is None or (lease.job.attempt, lease.job.node_id, lease.job.incarnation) != (attempt, node_id, incarnation):
            return None
        return lease

    def find(self, job_id: str) -> OpenLease | None:
        """Return the open lease of a job."""
        return self._by_job.get(job_id)

    def of_node(self, node_id: str) -> list[OpenLease]:
        """Return what a node holds."""
        return [lease for lease in self._by_job.values() if lease.job.node_id == node_id]

    def all(self) -> list[OpenLease]:
        """Return every open lease."""
        return list(self._by_job.values())
