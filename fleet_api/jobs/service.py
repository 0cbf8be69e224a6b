"""Jobs as callers see them: submit, look, cancel, retry. What agents do to them is in ``leases.py``.

Rows are the truth. A job is in the index exactly while its row is ``queued``, apart from the moments between a commit and the
line after it; every change of state is compare-and-set, so that whoever comes second does nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from sqlalchemy import Connection

from fleet_api.callbacks.events import note_ends
from fleet_api.errors import Conflict, NotFound, QueueFull, Unavailable
from fleet_api.idempotency import repository as repeats
from fleet_api.idempotency.keys import RequestKey
from fleet_api.jobs import repository
from fleet_api.jobs.crew import Crew
from fleet_api.jobs.index import Need, QueueIndex, need_of, waiting_of
from fleet_api.jobs.intake import Intake
from fleet_api.jobs.models import Job
from fleet_api.jobs.states import ENDED, JobState, Outcome
from fleet_api.jobs.submission import NewJob
from fleet_api.jobs.waiters import EndWaiters
from fleet_api.jobs.waits import Waits
from fleet_api.kit.bus import Bus
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.nodes.service import NodeService
from fleet_api.scheduling.costs import shape_of
from fleet_api.scheduling.eligibility import why_impossible
from fleet_api.scheduling.explain import explain

YIELD_EVERY = 100  # jobs told of before others get a turn, and event readers can keep up
QUEUE_FULL_SECONDS = "10"  # when to come again
WARM_UP = 2_000  # completed jobs read at start, from which costs are learnt
STARTED_BEFORE = 100_000  # jobs read at start to go on counting overtakes


class JobService:
    """One instance a process, used on the event loop only."""

    def __init__(self, db: Database, clock: Clock, bus: Bus, nodes: NodeService, crew: Crew, queue_limit: int) -> None:
        self._db = db
        self._clock = clock
        self._bus = bus
        self._nodes = nodes
        self._limit = queue_limit
        self._intake = Intake(db)
        self._next_seq = 1
        self._crew = crew
        self.index = QueueIndex(clock, crew.costs)
        self.waits = Waits(self.index, crew, clock)
        self.ends = EndWaiters()
        self.wake: Callable[[], None] = lambda: None
        self.on_cancelled: Callable[[Job], None] = lambda job: None
        self.on_callback: Callable[[], None] = lambda: None

    async def load(self) -> None:
        """Rebuild the index from the rows."""
        for node_id, model, payload, seconds, loading, together in await self._db.read(lambda db: repository.recent_runs(db, WARM_UP)):
            self._crew.costs.ran(node_id, shape_of(model, payload), (seconds - (loading or 0.0)) / together)
            if loading and model:
                self._crew.costs.loaded(node_id, model, loading)
        queued = await self._db.read(lambda db: repository.in_state(db, JobState.QUEUED))
        self.index.alone.update(await self._db.read(repository.parted))
        for job in queued:
            self.index.add(job)
        if queued:
            self.index.were_started(await self._db.read(lambda db: repository.started_after(db, queued[0].seq, STARTED_BEFORE)))
        self._next_seq = await self._db.read(repository.last_seq) + 1

    async def submit(self, new: list[NewJob], once: RequestKey | None = None, caller: str = "") -> list[Job]:
        """Queue the caller's jobs, all or none; they are on disk when this returns, and so is the caller's key, if there is one.

        Raises:
            Unavailable: no enrolled agent could ever serve one of them.
            QueueFull: the queue's limit would be passed.
            Conflict: the key was used, and the jobs that it made are deleted.
        """
        if once is not None and once.job_ids is not None:
            return await self._made_before(once)
        waiting = len(self.index) + self._intake.pending
        if waiting + len(new) > self._limit:
            said = f"The queue is full: {waiting:,} jobs wait and the limit is {self._limit:,}; try again later."
            raise QueueFull(said, {"Retry-After": QUEUE_FULL_SECONDS})
        now = self._clock.now()
        jobs = [_row(each, now, self._next_seq + i, caller) for i, each in enumerate(new)]
        self._refuse_impossible(jobs)
        self._next_seq += len(jobs)
        if once is None:
            await self._intake.store(jobs)
        else:
            await self._store_once(jobs, once, now)
        for job in jobs:
            self.index.add(job)
        self.wake()
        return jobs

    async def get(self, job_id: str) -> Job:
        """Return one job. Raises NotFound."""
        job = await self._db.read(lambda db: repository.get(db, job_id))
        if job is None:
            raise NotFound(f"There is no job {job_id!r}.")
        return job

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job that waits or runs; one that is cancelled already stays so. Raises NotFound and Conflict."""
        now = self._clock.now()

        def change(db: Connection) -> tuple[Job | None, Job | None]:
            before = repository.get(db, job_id)
            if before is None:
                return None, None
            if before.state == JobState.QUEUED:
                repository.cancel_queued(db, job_id, now)
            elif before.state == JobState.PROCESSING:
                repository.end_attempt(db, before, Outcome.CANCELLED, now, state=JobState.CANCELLED, finished_at=now)
            if before.state in (JobState.QUEUED, JobState.PROCESSING):
                note_ends(db, [before], now)
            return before, repository.get(db, job_id)

        before, after = await self._db.write(change)
        if before is None or after is None:
            raise NotFound(f"There is no job {job_id!r}.")
        if before.state in (JobState.COMPLETED, JobState.FAILED):
            raise Conflict(f"Job {job_id} is already {before.state}; only a job that waits or runs can be cancelled.")
        self.index.remove(job_id)
        if before.state == JobState.PROCESSING:
            self.on_cancelled(before)
        if before.state != JobState.CANCELLED:
            self.finished(after)
        return after

    async def cancel_open(self) -> int:
        """Cancel every job that waits or runs; return how many."""
        now = self._clock.now()

        def change(db: Connection) -> list[Job]:
            found = repository.in_state(db, JobState.QUEUED, JobState.PROCESSING)
            repository.cancel_every_queued(db, now)
            for job in found:
                if job.state == JobState.PROCESSING:
                    repository.end_attempt(db, job, Outcome.CANCELLED, now, state=JobState.CANCELLED, finished_at=now)
            note_ends(db, found, now)
            return found

        cancelled = await self._db.write(change)
        for number, job in enumerate(cancelled):
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            self.index.remove(job.id)
            if job.state == JobState.PROCESSING:
                self.on_cancelled(job)
            job.state = JobState.CANCELLED
            self.finished(job)
        return len(cancelled)

    async def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again. Raises NotFound and Conflict."""
        now = self._clock.now()

        def change(db: Connection) -> tuple[bool, Job | None]:
            return repository.requeue_ended(db, job_id, now), repository.get(db, job_id)

        changed, job = await self._db.write(change)
        if job is None:
            raise NotFound(f"There is no job {job_id!r}.")
        if not changed:
            raise Conflict(f"Job {job_id} is {job.state}; only a failed or cancelled job can be retried.")
        self.index.add(job, arrival=False)
        self.wake()
        return job

    def finished(self, job: Job) -> None:
        """Tell everyone that a job has ended."""
        data = {"job_id": job.id, "status": str(job.state), "result": job.result, "error": job.error}
        self._bus.publish("job_complete", data)
        self.ends.ended(job.id)
        self.index.alone.discard(job.id)
        if job.callback_url is not None:
            self.on_callback()

    async def wait_ended(self, job_id: str) -> Job:
        """Return the job once it has ended."""
        with self.ends.watch(job_id) as ended:
            job = await self.get(job_id)
            if job.state not in ENDED:
                await ended
                job = await self.get(job_id)
            return job

    def impossibilities(self) -> Callable[[Job], str | None]:
        """Return a function that says why no enrolled agent could ever serve a job, or None; for the length of one answer."""
        known: dict[Need, str | None] = {}

        def why(job: Job) -> str | None:
            waiting = waiting_of(job)
            need = need_of(waiting)
            if need not in known:
                known[need] = why_impossible(waiting, self._nodes.workers())
            return known[need]

        return why

    def explain(self, job_id: str) -> str:
        """Return in words why a waiting job waits; for one that is kept back after a failure until when."""
        job = self.index.waiting.get(job_id)
        if job is None:
            return "It failed and waits a moment before it is tried again." if job_id in self.index else "It does not wait."
        [seconds] = self.waits.of(job_id)
        return explain(self.index.waiting, job, self._crew.every(), self._clock.monotonic(), seconds)

    async def _store_once(self, jobs: list[Job], once: RequestKey, now: float) -> None:
        """Store the jobs with the caller's key, so that a kill leaves both or neither."""

        def store(db: Connection) -> None:
            repeats.add(db, once, now, job_ids=[job.id for job in jobs])
            repository.add_many(db, jobs)

        await self._db.write(store)
        once.stored = True

    async def _made_before(self, once: RequestKey) -> list[Job]:
        """Return the jobs that a key made, whose answer was lost. Raises Conflict where one was deleted."""
        ids = once.job_ids or []
        found = await self._db.read(lambda db: [job for job in (repository.get(db, job_id) for job_id in ids) if job is not None])
        if len(found) != len(ids):
            raise Conflict(f"What was made with Idempotency-Key {once.key!r} was deleted for its age; use a new key.")
        return found

    def _refuse_impossible(self, jobs: list[Job]) -> None:
        why = self.impossibilities()
        for job in jobs:
            if job.target_node is not None:
                self._nodes.get(job.target_node)
            reason = why(job)
            if reason is not None:
                raise Unavailable(reason)


def _row(new: NewJob, now: float, seq: int, caller: str) -> Job:
    return Job(
        seq=seq, id=str(uuid.uuid4()), door=new.door, job_type=new.job_type, state=JobState.QUEUED, priority=new.priority, front=new.front,
        model=new.model, cluster=new.cluster, payload=new.payload, callback_url=new.callback_url, max_retries=new.max_retries,
        timeout_seconds=new.timeout_seconds, created_at=now, queued_at=now, target_node=new.node, caller=caller,
    )  # fmt: skip
