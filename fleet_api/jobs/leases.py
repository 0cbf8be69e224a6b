"""What agents do with jobs: lease, beat, complete, fail; and what happens when they fall silent.

Guarantees (design point 5): at least once, effect once. An attempt is closed by exactly one of complete, fail, cancel, timeout
and loss, whichever row change comes first; whoever comes later is told 410, except that a repeated completion with the same digest
is told that it went well.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import Connection

from fleet_api.callbacks.events import note_ends
from fleet_api.errors import AttemptClosed, Conflict, Forbidden, InvalidValue
from fleet_api.jobs import repository
from fleet_api.jobs.backoff import retry_after
from fleet_api.jobs.crew import Crew
from fleet_api.jobs.dispatcher import Dispatcher, Waiter
from fleet_api.jobs.held import OpenLease, OpenLeases
from fleet_api.jobs.index import waiting_of
from fleet_api.jobs.models import Job
from fleet_api.jobs.service import JobService
from fleet_api.jobs.states import LOSS_LIMIT, JobState, Outcome
from fleet_api.kit.bus import Bus
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.service import NodeService
from fleet_api.outputs.service import OutputService
from fleet_api.scheduling.eligibility import can_serve
from gpu_inference.protocol import AGENT_STOPPED, LEASE_SECONDS, Complete, Fail, Held, Lease, LeaseReply, LeaseRequest, Progress

log = structlog.get_logger()

JPEG_MAGIC = b"\xff\xd8\xff"
DEATHS = frozenset({"engine_died", "out_of_memory"})
"""Kinds of failure in which a job's worker died."""

FAULTLESS = frozenset({"not_built"})
"""Kinds of failure that are no sign of an unsound node: it lacks what an operator has yet to build there."""

FELT_BY_ALL = DEATHS | {"step_timeout", "load_timeout", "start_timeout", "timeout"}
"""Kinds of failure of a job in which the others of its batch may have their part: it ended as a whole, or they took of its time."""

FOR_NOTHING = frozenset({Outcome.LOST, Outcome.PARTED})
"""How attempts end that use up no retry."""

STOOD_STILL_SECONDS = 5.0
"""A control plane that did not look at its leases for so long stood still itself, and cannot have heard anybody."""


class LeaseService:
    """One instance a process, used on the event loop only."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        bus: Bus,
        nodes: NodeService,
        jobs: JobService,
        leases: OpenLeases,
        dispatcher: Dispatcher,
        outputs: OutputService,
        crew: Crew,
    ) -> None:
        self._db = db
        self._clock = clock
        self._bus = bus
        self._nodes = nodes
        self._jobs = jobs
        self._leases = leases
        self._dispatcher = dispatcher
        self._outputs = outputs
        self._crew = crew
        self._looked = time.monotonic()
        jobs.on_cancelled = self._cancelled
        nodes.on_new_incarnation = self.free_others

    async def load(self) -> None:
        """Give every open attempt a full term: its agent may well be at work on it. Who was made with others still is one of so many."""

        def read(db: Connection) -> tuple[list[Job], dict[tuple[str, float], int]]:
            found = repository.in_state(db, JobState.PROCESSING)
            return found, repository.given_since(db, min(job.started_at or 0.0 for job in found)) if found else {}

        found, given = await self._db.read(read)
        for job in found:
            self._leases.open(job, self._clock.monotonic(), given.get((job.node_id or "", job.started_at or 0.0), 1))
            self._nodes.took(job.node_id or "", job.id, job.attempt)

    async def lease(self, node: LiveNode, request: LeaseRequest) -> LeaseReply:
        """Wait for a job for this node, or for word to stop one. A repeated request gets the same leases again."""
        stop = self.stale(node, request.incarnation, request.holding)
        if stop:
            return LeaseReply(stop=stop)
        await self._dispatcher.granted(node.id)
        if request.want_job:
            before = [each.job for each in self._leases.of_node(node.id) if each.job.request_id == request.request_id]
            before = [job for job in before if job.incarnation == request.incarnation]
            if before:
                return _reply(before)
            told = self._dispatcher.told(node.id, request.request_id)
            if told is not None:
                return LeaseReply(load=told.model)
        waiter = Waiter(node, request.incarnation, request.request_id, request.want_job, request.batch_limit)
        self._dispatcher.poll(waiter)
        try:
            await asyncio.wait({waiter.future}, timeout=request.wait_seconds)
        except asyncio.CancelledError:
            self._dispatcher.abandon(waiter)
            raise
        answer = await self._dispatcher.drop(waiter)
        stop = self.stale(node, request.incarnation, request.holding)
        if not isinstance(answer, list):
            return LeaseReply(load=answer.model if answer is not None else None, stop=stop)
        for job in answer:
            self._bus.publish("job_progress", {"job_id": job.id, "progress": 0, "status": "processing", "node_id": node.id})
        return _reply(answer, stop)

    def stale(self, node: LiveNode, incarnation: str, holding: list[Held] | list[Progress]) -> list[Held]:
        """Return those of the attempts an agent holds that are not, or no longer, its own."""
        return [
            Held(job_id=held.job_id, attempt=held.attempt)
            for held in holding
            if self._leases.get(held.job_id, held.attempt, node.id, incarnation) is None
        ]

    def beat(self, node: LiveNode, incarnation: str, holding: list[Progress]) -> list[Held]:
        """Renew the leases named and note their steps; return the attempts to stop."""
        now = self._clock.monotonic()
        for progress in holding:
            lease = self._leases.get(progress.job_id, progress.attempt, node.id, incarnation)
            if lease is not None:
                lease.heard = now
                self._note_step(lease, progress)
        return self.stale(node, incarnation, holding)

    def check_upload(self, node: LiveNode, job_id: str, attempt: int) -> None:
        """Raise AttemptClosed unless the attempt is open, and Forbidden if it is another node's."""
        self._refuse_foreign(node, job_id, attempt)
        lease = self._leases.find(job_id)
        if lease is None or lease.job.attempt != attempt:
            raise AttemptClosed(f"Attempt {attempt} of job {job_id} is closed; its output is not taken.")

    def check_uploaded(self, node: LiveNode, job_id: str, attempt: int) -> None:
        """As :meth:`check_upload`, once the bytes are there: those of an attempt that was closed meanwhile are dropped."""
        try:
            self.check_upload(node, job_id, attempt)
        except AttemptClosed:
            self._outputs.drop_staged(job_id, attempt)
            raise

    def preview(self, node: LiveNode, job_id: str, attempt: int, step: int, jpeg: bytes) -> None:
        """Keep how far an attempt's picture is, and tell that it is there; it renews no lease. Raises as :meth:`check_upload`."""
        if not jpeg.startswith(JPEG_MAGIC):
            raise InvalidValue("The preview must be a JPEG.")
        self.check_upload(node, job_id, attempt)
        lease = self._leases.find(job_id)
        if lease is not None:
            lease.preview, lease.preview_step = jpeg, step
            told = {"job_id": job_id, "progress": percent_of(lease.job), "node_id": node.id, "preview": step}
            self._bus.publish("job_progress", told)

    def preview_of(self, job_id: str) -> bytes | None:
        """Return the last preview of a job that runs."""
        lease = self._leases.find(job_id)
        return lease.preview if lease is not None else None

    async def complete(self, node: LiveNode, word: Complete) -> None:
        """End an attempt with its uploaded output. Raises AttemptClosed, and Conflict when the upload is missing."""
        self._refuse_foreign(node, word.job_id, word.attempt)
        lease = self._leases.get(word.job_id, word.attempt, node.id, word.incarnation)
        if lease is None:
            await self._accept_repeat(word, node)
            return
        job, now = lease.job, self._clock.now()
        staged = self._outputs.staged(word.job_id, word.attempt)
        if staged is None:
            raise Conflict("The output has not been uploaded yet; upload it, then complete.")
        output = await asyncio.to_thread(self._outputs.describe, staged, job, node.id, word, now)
        result = {**word.result, "image_url": f"/api/vision/outputs/{output.filename}", "node_id": node.id}

        def change(db: Connection) -> bool:
            done = repository.end_attempt(
                db,
                job,
                Outcome.COMPLETED,
                now,
                digest=word.sha256,
                load_seconds=lease.load_seconds,
                state=JobState.COMPLETED,
                finished_at=now,
                result=result,
                step=job.steps,
            )
            if done:
                note_ends(db, [job], now)
                self._outputs.record(db, output)
                # The one file operation inside a write: only who closed the attempt may touch the job's file name.
                self._outputs.publish(staged, output)
            return done

        if not await self._db.write(change):
            await self._accept_repeat(word, node)  # the same completion may have come twice at once
            return
        self._close(lease)
        self._crew.ran(node, job, (self._clock.monotonic() - lease.started - (lease.load_seconds or 0.0)) / lease.together)
        job.state, job.result, job.finished_at = JobState.COMPLETED, result, now
        self._jobs.finished(job)

    async def fail(self, node: LiveNode, word: Fail) -> None:
        """End an attempt that gave nothing; the job is queued again while it has retries left. Raises AttemptClosed."""
        self._refuse_foreign(node, word.job_id, word.attempt)
        lease = self._leases.get(word.job_id, word.attempt, node.id, word.incarnation)
        if lease is None:
            raise AttemptClosed(f"Attempt {word.attempt} of job {word.job_id} is closed.")
        if lease.together > 1 and word.retry and word.kind in FELT_BY_ALL:
            await self._end_without_result(lease, Outcome.PARTED, word.error)
        elif word.kind == AGENT_STOPPED:
            await self._end_without_result(lease, Outcome.LOST, word.error, retry=word.retry, death=False)
        else:
            death, fault = word.kind in DEATHS, word.kind not in FAULTLESS
            await self._end_without_result(lease, Outcome.FAILED, word.error, retry=word.retry, death=death, fault=fault)

    async def free_others(self, node_id: str, incarnation: str) -> None:
        """A new incarnation of the agent has come: what its old ones held is queued again at once."""
        for lease in self._leases.of_node(node_id):
            if lease.job.incarnation != incarnation:
                await self._end_without_result(lease, Outcome.LOST, f"The agent on {node_id} was restarted.")

    async def free_node(self, node_id: str) -> None:
        """The node is retired: what its agent held is queued again, and its open polls end."""
        self._dispatcher.interrupt(node_id)
        await self._dispatcher.granted(node_id)
        for lease in self._leases.of_node(node_id):
            await self._end_without_result(lease, Outcome.LOST, f"Node {node_id} was removed.", death=False)

    async def reap(self) -> None:
        """Free the leases not heard of for their term, and end attempts that ran out of their job's time."""
        now, before, self._looked = self._clock.monotonic(), self._looked, time.monotonic()
        if self._looked - before > STOOD_STILL_SECONDS:  # stopped, or starved: beats wait unread, so every lease gets a full term
            log.warning("stood_still", seconds=round(self._looked - before, 1), leases=len(self._leases))
            for lease in self._leases.all():
                lease.heard = now
        for lease in self._leases.all():
            if now - lease.heard > LEASE_SECONDS:
                await self._end_without_result(lease, Outcome.LOST, f"Node {lease.node_id} fell silent for {LEASE_SECONDS:.0f} s.")
            elif now - lease.started > lease.job.timeout_seconds:
                sentence = f"The job ran longer than its timeout of {lease.job.timeout_seconds:g} s."
                await self._end_without_result(lease, Outcome.TIMED_OUT if lease.together == 1 else Outcome.PARTED, sentence)
                self._dispatcher.interrupt(lease.node_id)

    async def _end_without_result(
        self, lease: OpenLease, outcome: Outcome, error: str, retry: bool = True, death: bool | None = None, fault: bool = True
    ) -> None:
        """``death`` says whether the worker died of it; by default one that is lost did, but of a batch nobody knows which it was.

        ``fault`` says whether the node may be at fault.
        """
        job, now = lease.job, self._clock.now()
        if outcome is Outcome.LOST and death is None and lease.together > 1:
            outcome = Outcome.PARTED
        if outcome is Outcome.PARTED:
            self._jobs.index.alone.add(job.id)
        died = outcome is Outcome.LOST if death is None else death
        losses, failures = job.losses + died, job.failures + (outcome not in FOR_NOTHING)
        again = retry and failures <= job.max_retries and losses < LOSS_LIMIT
        values: dict[str, Any] = {"losses": losses, "failures": failures, "avoid": self._other_than(job), "step": 0}
        if again:
            wait = now + retry_after(failures) if outcome not in FOR_NOTHING else None
            # queued_at stays: whoever comes back without his doing keeps his place
            values |= {"state": JobState.QUEUED, "node_id": None, "incarnation": None, "started_at": None}
            values["not_before"] = wait
        else:
            if losses >= LOSS_LIMIT:
                error = f"{error} Its worker died {losses} times, so the job is not tried again."
            values |= {"state": JobState.FAILED, "finished_at": now}

        def change(db: Connection) -> Job | None:
            changed = repository.end_attempt(db, job, outcome, now, error=error, load_seconds=lease.load_seconds, **values)
            if changed and not again:
                note_ends(db, [job], now)
            return repository.get(db, job.id) if changed else None

        after = await self._db.write(change)
        self._close(lease)
        if after is not None:
            if fault and retry and (died or outcome is not Outcome.LOST):
                self._crew.went_wrong(lease.node_id, f"batch {job.request_id}" if outcome is Outcome.PARTED else job.id)
            log.warning("attempt_ended", job=job.id, attempt=job.attempt, node=job.node_id, outcome=str(outcome), again=again, error=error)
            if again:  # with no await since the write, so that whoever cancels now finds the job in the index
                self._jobs.index.add(after, arrival=False)
                self._bus.publish("job_progress", {"job_id": job.id, "progress": 0, "status": "queued"})
                self._dispatcher.wake()
            else:
                self._jobs.finished(after)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._outputs.drop_staged, job.id, job.attempt)

    async def _accept_repeat(self, word: Complete, node: LiveNode) -> None:
        attempt = await self._db.read(lambda db: repository.attempt_row(db, word.job_id, word.attempt))
        if attempt is not None and attempt.node_id == node.id:
            self._outputs.drop_staged(word.job_id, word.attempt)
        if attempt is None or attempt.node_id != node.id or attempt.outcome != Outcome.COMPLETED or attempt.digest != word.sha256:
            raise AttemptClosed(f"Attempt {word.attempt} of job {word.job_id} is closed; its result is not taken.")

    def _other_than(self, job: Job) -> str | None:
        """Return the node to avoid at the next try: the one that failed, if another that is online could serve the job."""
        others = (node for node in self._nodes.all() if node.online and node.id != job.node_id)
        return job.node_id if any(can_serve(waiting_of(job), node.worker) for node in others) else None

    def _refuse_foreign(self, node: LiveNode, job_id: str, attempt: int) -> None:
        """Raise Forbidden for an attempt that is open on another node: an agent speaks for its own alone."""
        lease = self._leases.find(job_id)
        if lease is not None and lease.job.attempt == attempt and lease.node_id != node.id:
            raise Forbidden(f"Attempt {attempt} of job {job_id} is another node's.")

    def _note_step(self, lease: OpenLease, progress: Progress) -> None:
        job = lease.job
        loaded = lease.phase(progress.phase, self._clock.monotonic())
        if loaded is not None:
            self._crew.loaded(lease.node_id, job.model, loaded)
        if (progress.step, progress.steps) == (job.step, job.steps):
            return
        job.step, job.steps = progress.step, progress.steps
        self._bus.publish("job_progress", {"job_id": job.id, "progress": percent_of(job), "node_id": job.node_id, "phase": progress.phase})

    def _cancelled(self, job: Job) -> None:
        lease = self._leases.find(job.id)
        if lease is not None and lease.job.attempt == job.attempt:
            self._close(lease)
            self._outputs.drop_staged(job.id, job.attempt)
        if job.node_id is not None:
            self._dispatcher.interrupt(job.node_id)

    def _close(self, lease: OpenLease) -> None:
        self._leases.close(lease.job.id, lease.job.attempt)
        self._nodes.freed(lease.node_id, lease.job.id)


def percent_of(job: Job) -> int:
    """Return how far an attempt is, in whole percent; 99 at the most until it is completed."""
    return min(99, round(100 * job.step / job.steps)) if job.steps else 0


def _reply(jobs: Sequence[Job], stop: Sequence[Held] = ()) -> LeaseReply:
    first, *companions = map(_lease_of, jobs)
    return LeaseReply(lease=first, companions=companions, stop=list(stop))


def _lease_of(job: Job) -> Lease:
    return Lease(job_id=job.id, attempt=job.attempt, job_type=job.job_type, payload=job.payload, timeout_seconds=job.timeout_seconds)
