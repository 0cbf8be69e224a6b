"""The long poll: asks for a job while there is none, and listens for attempts to end while there is one."""

from __future__ import annotations

import asyncio
import uuid
from typing import Optional

from gpu_inference.agent import logs
from gpu_inference.agent.client import ApiClient, Backoff, Refused, Unreachable
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.runner import JOB_TYPES, Runner
from gpu_inference.protocol import Capabilities, LeaseReply, LeaseRequest

_REFUSED_WAIT = 5.0


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
    )


class LeaseLoop:
    """Runs until it is cancelled."""

    def __init__(self, client: ApiClient, engine: EngineProcess, runner: Runner, incarnation: str, fetches: bool = False) -> None:
        self._client = client
        self._engine = engine
        self._runner = runner
        self._incarnation = incarnation
        self._fetches = fetches
        self._backoff = Backoff()
        self._unanswered: Optional[str] = None

    async def run(self) -> None:
        """Polls. Raises :class:`gpu_inference.agent.client.Rejected` where the credential is not accepted."""
        while True:
            want_job = self._runner.idle.is_set() and self._engine.alive
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
                    self._runner.start(reply.lease)
                elif reply.load is not None:
                    self._runner.load(reply.load)

    def _request(self, want_job: bool, request_id: str) -> LeaseRequest:
        return LeaseRequest(
            incarnation=self._incarnation,
            request_id=request_id,
            want_job=want_job,
            holding=self._runner.holding(),
            loaded_model=self._engine.loaded_model,
            capabilities=capabilities(self._engine, self._fetches),
        )

    async def _ask(self) -> LeaseReply:
        """Asks for a job; a request that was not answered is repeated under its id, so that no lease is lost."""
        self._unanswered = self._unanswered or uuid.uuid4().hex
        reply = await self._client.lease(self._request(True, self._unanswered))
        self._unanswered = None
        return reply

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
        await self._runner.idle.wait()
        await self._engine.wait_alive()
