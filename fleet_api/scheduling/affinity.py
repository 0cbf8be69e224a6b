"""The first rule: priority, then age, with a preference for a node that has the model loaded.

Priority is absolute. Inside a priority a worker looks at the first :data:`LOOKAHEAD` jobs it could serve and takes the oldest
whose model it has loaded, else the oldest. A job that was overtaken :data:`MAX_OVERTAKES` times is taken by the next worker that
can serve it, so no job waits for ever. A retry goes to another node than the one that failed, where there is a choice of jobs.

Cost: O(workers x LOOKAHEAD), however long the queue is.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet_api.scheduling.types import Assignment, Candidates, WaitingJob, Worker

LOOKAHEAD = 32
MAX_OVERTAKES = 32


def assign(candidates: Candidates, workers: Iterable[Worker]) -> list[Assignment]:
    """Return at most one assignment a worker, deterministic in the order of its arguments."""
    taken: set[str] = set()
    assignments: list[Assignment] = []
    for worker in workers:
        window = _window(candidates(worker), taken)
        if window:
            best = _best(window, worker)
            taken.add(window[best].id)
            assignments.append(Assignment(window[best].id, worker.node_id, tuple(job.id for job in window[:best])))
    return assignments


def _window(jobs: Iterable[WaitingJob], taken: set[str]) -> list[WaitingJob]:
    window: list[WaitingJob] = []
    for job in jobs:
        if job.id in taken:
            continue
        if len(window) == LOOKAHEAD or (window and job.priority != window[0].priority):
            break
        window.append(job)
    return window


def _best(window: list[WaitingJob], worker: Worker) -> int:
    for i, job in enumerate(window):
        if job.overtaken >= MAX_OVERTAKES:
            return i
    fresh = [i for i, job in enumerate(window) if job.avoid != worker.node_id]
    return next((i for i in fresh if window[i].model == worker.loaded_model), fresh[0] if fresh else 0)
