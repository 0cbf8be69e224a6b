"""The long poll: asks for a job while there is none, and listens for attempts to end while there is one."""

from __future__ import annotations

import asyncio
import uuid
from typing import Optional

from gpu_inference.agent import logs
from gpu_inference.agent.builder import can_build
from gpu_inference.agent.client import ApiClient, Backoff, Refused, Unreachable
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.runner import JOB_TYPES, Runner
from gpu_inference.protocol import LEASE_WAIT_SECONDS, Capabilities, LeaseReply, LeaseRequest

_REFUSED_WAIT = 5.0
WITHDRAWN_SECONDS = 1.0
"""So long an answer is waited for to a request that was withdrawn, as a job may be on its way with it."""


def capabilities(engine: EngineProcess, fetches: bool = False) -> Optional[Capabilities]:
    """What the node can serve, by the engine's own word; None before its first, nothing at all where there is none to come.

    ``fetches``: and fetch from the store.
    """
    hello = engine.hello
    if hello is None:
        return Capabilities() if engine.absent else None
    return Capabilities(
        job_types=list(JOB_TYPES),
        models=hello.models,
        loras=hello.loras,
        samplers=hello.samplers,
        backend=hello.backend,
        devices=hello.devices,
        loads=True,
        fetches=fetches,
        builds=can_build(),
        builds_loras=can_build(),
    )


class LeaseLoop:
    """Runs until it is cancelled. ``answered`` is set while no request for a job is open."""

    def __init__(self, client: ApiClient, engine: EngineProcess, runner: Runner, incarnation: str, fetches: bool = False) -> None:
        self._client = client
        self._engine = engine
        self._runner = runner
        self._incarnation = incarnation
        self._fetches = fetches
        self._backoff = Backoff()
        self._unanswered: Optional[str] = None
        self.answered = asyncio.Event()
        self.answered.set()

    async def run(self) -> None:
        """Polls. Raises :class:`gpu_inference.agent.client.Rejected` where the credential is not accepted."""
        while True:
            want_job = self._runner.free and self._engine.alive
            try:
                reply = await (self._ask() if want_job else self._listen())
            except Unreachable as error:
                await asyncio.sleep(self._backoff.next(error.after))
                continue
            except Refused as error:
                logs.error("The lease request failed.", reason=str(error))
                self._unanswered = None
                await asyncio.sleep(_REFUSED_WAIT)
                continue
            self._backoff.reset()
            if reply is not None:
                self._runner.stop(reply.stop)
                if reply.lease is not None:
                    self._runner.start([reply.lease, *reply.companions])
                elif reply.load is not None:
                    self._runner.load(reply.load)

    def _request(self, want_job: bool, request_id: str, wait_seconds: float = LEASE_WAIT_SECONDS) -> LeaseRequest:
        return LeaseRequest(
            incarnation=self._incarnation,
            request_id=request_id,
            want_job=want_job,
            holding=self._runner.holding(),
            loaded_model=self._engine.loaded_model,
            warm_models=self._engine.spare_models,
            parked_models=self._engine.parked_models,
            unbuilt_models=sorted(self._engine.unbuilt)[:100],
            capabilities=capabilities(self._engine, self._fetches),
            wait_seconds=wait_seconds,
            batch_limit=self._engine.batch_limit,
        )

    async def _ask(self) -> Optional[LeaseReply]:
        """Asks for a job; a request that was not answered is repeated under its id, so that no lease is lost.

        None where the request was withdrawn, as no job is wanted any more, and no answer came to it.
        """
        self._unanswered = self._unanswered or uuid.uuid4().hex
        poll = asyncio.ensure_future(self._client.lease(self._request(True, self._unanswered)))
        reserved = asyncio.ensure_future(self._runner.turn.reserved.wait())
        self.answered.clear()
        try:
            await asyncio.wait([poll, reserved], return_when=asyncio.FIRST_COMPLETED)
            if not poll.done():
                await self._withdraw(poll)
            reply = poll.result() if poll.done() else None
            if reply is not None:
                self._unanswered = None
            return reply
        finally:
            for task in (poll, reserved):
                task.cancel()
            await asyncio.gather(poll, reserved, return_exceptions=True)
            self.answered.set()

    async def _withdraw(self, poll: asyncio.Future[LeaseReply]) -> None:
        """Has the control plane answer a request that is open: a newer one of the same agent ends it, with the job that is on its way."""
        newer = asyncio.ensure_future(self._client.lease(self._request(False, uuid.uuid4().hex, 0.0)))
        try:
            await asyncio.wait([poll], timeout=WITHDRAWN_SECONDS)
        finally:
            newer.cancel()
            await asyncio.gather(newer, return_exceptions=True)

    async def _listen(self) -> Optional[LeaseReply]:
        """Listens until there is word, or until a job could be taken; None in the latter case."""
        poll = asyncio.ensure_future(self._client.lease(self._request(False, uuid.uuid4().hex)))
        free = asyncio.ensure_future(self._free())
        try:
            await asyncio.wait([poll, free], return_when=asyncio.FIRST_COMPLETED)
            return poll.result() if poll.done() else None
        finally:
            for task in (poll, free):
                task.cancel()
            await asyncio.gather(poll, free, return_exceptions=True)

    async def _free(self) -> None:
        while True:
            await self._runner.idle.wait()
            await self._engine.wait_alive()
            if self._runner.free:
                return
            await self._runner.turn.unreserved.wait()
