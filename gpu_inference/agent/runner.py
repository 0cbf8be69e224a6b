"""Leases from their start to their end: one, or some that were given together and are made as one batch."""

from __future__ import annotations

import asyncio
import time
from typing import Iterable, List, Optional, Sequence, Set

from gpu_inference.agent import logs
from gpu_inference.agent.batch import Order
from gpu_inference.agent.cache import Key, ModelCache
from gpu_inference.agent.client import ApiClient, Rejected
from gpu_inference.agent.engine_outcome import EngineFailure, Output
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.pace import Pace
from gpu_inference.agent.previews import PreviewSender
from gpu_inference.agent.tally import QUEUE
from gpu_inference.agent.turn import Turn
from gpu_inference.agent.uploads import Outbox, deliver, report_failure
from gpu_inference.agent.within import within
from gpu_inference.protocol import AGENT_STOPPED, Held, Lease, Progress

JOB_TYPES = ("image_gen",)
STOPPED = "The agent was stopped in the middle of the job."
_NOT_HERE = ("unknown_model", "unknown_lora")


class Attempt:
    """A lease being worked on."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.held = Held(job_id=lease.job_id, attempt=lease.attempt)
        self.key = f"{lease.job_id}/{lease.attempt}"
        self.progress = Progress(job_id=lease.job_id, attempt=lease.attempt, phase="starting")
        self.pace = Pace()
        self.at_engine = False
        self.given_up = asyncio.Event()
        self.outcome: asyncio.Future[Output] = asyncio.get_running_loop().create_future()

    def fail(self, failure: EngineFailure) -> None:
        """There is no picture."""
        if not self.outcome.done():
            self.outcome.set_exception(failure)
            self.outcome.exception()  # whether somebody looks or not

    @property
    def stopped(self) -> bool:
        """Whether the control plane wants no more of it."""
        return self.given_up.is_set()


class Runner:
    """Works on one batch of attempts at a time. ``idle`` is set while there is none, ``changed`` at each step.

    It shares the engine with the agent's own door (:class:`gpu_inference.agent.turn.Turn`).
    """

    def __init__(self, client: ApiClient, engine: EngineProcess, outbox: Outbox, incarnation: str, turn: Turn) -> None:
        self._client = client
        self._engine = engine
        self._outbox = outbox
        self._incarnation = incarnation
        self._task: Optional[asyncio.Task[None]] = None
        self.cache: Optional[ModelCache] = None
        self.attempts: List[Attempt] = []
        self.loading: Optional[str] = None
        self.idle = asyncio.Event()
        self.idle.set()
        self.changed = asyncio.Event()
        self._given_up = asyncio.Event()
        self._previews = PreviewSender(client)
        self.turn = turn

    @property
    def free(self) -> bool:
        """Whether a job may be asked for."""
        return self.idle.is_set() and not self.turn.reserved.is_set()

    def progress(self) -> List[Progress]:
        """Where the attempts stand, for a beat."""
        return [attempt.progress for attempt in self.attempts]

    def holding(self) -> List[Held]:
        """The attempts held, for a lease request."""
        return [attempt.held for attempt in self.attempts]

    def left(self) -> Optional[float]:
        """Seconds that the attempts at work still take, where that can be told."""
        lefts = [attempt.pace.left(time.monotonic()) for attempt in self.attempts]
        return max((left for left in lefts if left is not None), default=None)

    def in_use(self) -> Set[Key]:
        """What of the cache must stay: the loaded model, the one that is loaded now, and what the jobs at work name."""
        names = [("checkpoint", self._engine.loaded_model), ("checkpoint", self.loading)]
        for payload in (attempt.lease.payload for attempt in self.attempts):
            names += [("checkpoint", payload.get("model")), ("lora", payload.get("lora"))]
            more = payload.get("loras")
            names += [("lora", each.get("name")) for each in (more if isinstance(more, list) else []) if isinstance(each, dict)]
        return {(kind, name) for kind, name in names if isinstance(name, str)}

    def start(self, leases: Sequence[Lease]) -> None:
        """Begins leases given together. The same again are ignored, as they are being worked on; what comes late is given back."""
        if self.attempts:
            return
        self.attempts = [Attempt(lease) for lease in leases]
        self.idle.clear()
        self.changed.set()
        self._task = asyncio.ensure_future(self._work(list(self.attempts)))

    def drain(self) -> None:
        """Takes no more jobs from now on; the one at work goes on."""
        self.turn.drain()
        self.changed.set()

    def load(self, model: str) -> None:
        """Has the engine load a model; until that is done, or has failed, no job is asked for."""
        if self.attempts or self.loading is not None:
            return
        self.loading = model
        self.idle.clear()
        self.changed.set()
        self._task = asyncio.ensure_future(self._load(model))

    def stop(self, attempts: Iterable[Held]) -> None:
        """Ends those of its attempts that are among these at their next step."""
        ended = {(one.job_id, one.attempt) for one in attempts}
        for attempt in [each for each in self.attempts if (each.held.job_id, each.held.attempt) in ended and not each.stopped]:
            attempt.given_up.set()
            logs.info("The control plane ends an attempt.", job_id=attempt.held.job_id, attempt=attempt.held.attempt)
            if attempt.at_engine:
                self._engine.cancel(attempt.key)
        if self.attempts and all(attempt.stopped for attempt in self.attempts):
            self._given_up.set()

    async def shutdown(self, seconds: float) -> None:
        """Ends the work at once, telling the control plane within ``seconds`` that the attempts may go elsewhere."""
        attempts, task = list(self.attempts), self._task
        if task is not None and self.loading is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not attempts or task is None or task.done():
            return
        left = [attempt.held for attempt in attempts if attempt.progress.phase != "uploading" and not attempt.stopped]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        said = [report_failure(self._client, held, self._incarnation, STOPPED, AGENT_STOPPED, True) for held in left]
        await asyncio.gather(*(within(each, seconds) for each in said), return_exceptions=True)

    async def _give_back(self, attempt: Attempt) -> None:
        """Lets go of a lease that was given at the very moment when the agent began to drain."""
        try:
            await report_failure(self._client, attempt.held, self._incarnation, "The agent is stopping.", AGENT_STOPPED, True)
        finally:
            self._done(attempt)

    async def _load(self, model: str) -> None:
        try:
            await self.turn.take(asyncio.Event())
            try:
                await self._engine.ensure_started()
                await self._engine.load(model)
            finally:
                self.turn.leave()
            logs.info("A model is loaded.", model=model)
        except EngineFailure as failure:
            logs.warning("A model cannot be loaded.", model=model, reason=str(failure))
        finally:
            self.loading = None
            self.changed.set()
            self.idle.set()

    async def _work(self, attempts: List[Attempt]) -> None:
        if self.turn.draining:
            await asyncio.gather(*(self._give_back(attempt) for attempt in attempts), return_exceptions=True)
            self.idle.set()
            return
        self._given_up = asyncio.Event()
        making = asyncio.ensure_future(self._make(attempts))
        try:
            await asyncio.gather(*(self._run(attempt) for attempt in attempts), return_exceptions=True)
        finally:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
            self.changed.set()
            self.idle.set()

    async def _run(self, attempt: Attempt) -> None:
        held = attempt.held
        logs.info("An attempt begins.", job_id=held.job_id, attempt=held.attempt)
        try:
            try:
                output = await attempt.outcome
            except EngineFailure as failure:
                kind, retry = ("cancelled", False) if attempt.stopped else (failure.kind, failure.retry)
                if kind in _NOT_HERE and self.cache is not None and self.cache.gone & self.in_use():
                    retry = True  # it was evicted or deleted on the way; another node may have it
                logs.warning("An attempt failed.", job_id=held.job_id, attempt=held.attempt, kind=kind, reason=str(failure))
                self._engine.tally.ended[QUEUE, kind] += 1
                await report_failure(self._client, held, self._incarnation, str(failure), kind, retry)
                return
            self._note(attempt, attempt.progress.step, attempt.progress.steps, "uploading")
            try:
                pending = self._outbox.keep(held, self._incarnation, output.png, output.result)
            except OSError as error:
                logs.error("A finished picture cannot be kept.", job_id=held.job_id, attempt=held.attempt, reason=str(error))
                sentence = f"The finished picture cannot be kept on the node's disk ({error.strerror})."
                await report_failure(self._client, held, self._incarnation, sentence, "disk", True)
                return
            if await deliver(self._client, pending, lambda: attempt.stopped):
                self._engine.tally.ended[QUEUE, "completed"] += 1
                logs.info("An attempt is complete.", job_id=held.job_id, attempt=held.attempt)
        except asyncio.CancelledError:
            raise
        except Rejected as error:
            logs.warning("An attempt cannot be ended.", job_id=held.job_id, attempt=held.attempt, reason=str(error))
        except Exception as error:
            logs.error("An attempt failed in the agent.", job_id=held.job_id, attempt=held.attempt, reason=repr(error)[:500])
            message = f"The agent failed with {type(error).__name__}."
            await report_failure(self._client, held, self._incarnation, message, "agent", True)
        finally:
            self._done(attempt)

    def _done(self, attempt: Attempt) -> None:
        self.attempts = [each for each in self.attempts if each is not attempt]
        self.changed.set()

    async def _make(self, attempts: List[Attempt]) -> None:
        """Has the engine make the pictures; each attempt is told its outcome as soon as it is there."""
        try:
            await self._at_engine(attempts)
        except EngineFailure as failure:
            for attempt in attempts:
                attempt.fail(failure)
        except Exception as error:
            for attempt in attempts:
                if not attempt.outcome.done():
                    attempt.outcome.set_exception(error)

    async def _at_engine(self, attempts: List[Attempt]) -> None:
        if self.cache is not None:
            for key in self.in_use():
                self.cache.touch(key)
        for attempt in attempts:
            if attempt.lease.job_type not in JOB_TYPES:
                text = "This agent does not do jobs of type '{:.60}'; it does: {}.".format(attempt.lease.job_type, ", ".join(JOB_TYPES))
                attempt.fail(EngineFailure(text, "unknown_job_type", False))
            self._note(attempt, 0, 0, "waiting")
        if not await self.turn.take(self._given_up):
            raise EngineFailure("The job was cancelled before it began.", "cancelled", False)
        wanted: List[Attempt] = []
        try:
            await self._engine.ensure_started()
            for attempt in attempts:
                if attempt.stopped:
                    attempt.fail(EngineFailure("The job was cancelled before it began.", "cancelled", False))
            wanted = [attempt for attempt in attempts if not attempt.outcome.done()]
            for attempt in wanted:
                attempt.at_engine = True
            if wanted:
                await self._engine.render_batch([self._order(attempt) for attempt in wanted])
        finally:
            for attempt in wanted:
                attempt.at_engine = False
            self.turn.leave()

    def _order(self, attempt: Attempt) -> Order:
        def progress(step: int, steps: int, phase: str) -> None:
            self._note(attempt, step, steps, phase)

        def show(step: int, jpeg: bytes) -> None:
            self._previews.offer(attempt.held, step, jpeg)

        return Order(attempt.key, attempt.lease.payload, progress, attempt.lease.timeout_seconds, show, attempt.outcome)

    def _note(self, attempt: Attempt, step: int, steps: int, phase: str) -> None:
        attempt.pace.note(step, steps, phase, time.monotonic())
        attempt.progress = Progress(job_id=attempt.held.job_id, attempt=attempt.held.attempt, step=step, steps=steps, phase=phase)
        self.changed.set()
