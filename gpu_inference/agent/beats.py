"""Signs of life: with the node's figures while idle, with the step at every step, within the protocol's pace."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Dict, Optional

from gpu_inference.agent import logs
from gpu_inference.agent.builder import Builder
from gpu_inference.agent.client import ApiClient, Gone, Refused, Unreachable
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.fetching import Fetcher
from gpu_inference.agent.leases import capabilities
from gpu_inference.agent.runner import Runner
from gpu_inference.agent.telemetry import Telemetry
from gpu_inference.agent.within import within
from gpu_inference.protocol import BEAT_SECONDS, BUILDING, DRAINING, MAX_BEATS_PER_SECOND, SERVING, Beat, Capabilities

FACTS_SECONDS = 300.0
QUICKEST = 1.0 / MAX_BEATS_PER_SECOND


class BeatLoop:
    """Runs until it is cancelled."""

    def __init__(
        self,
        client: ApiClient,
        engine: EngineProcess,
        runner: Runner,
        telemetry: Telemetry,
        incarnation: str,
        fetcher: Optional[Fetcher] = None,
        builder: Optional[Builder] = None,
    ) -> None:
        self._client = client
        self._engine = engine
        self._runner = runner
        self._telemetry = telemetry
        self._incarnation = incarnation
        self._fetcher = fetcher
        self._builder = builder
        self._said: Optional[Capabilities] = None
        self._facts_due = 0.0
        self._metrics_due = 0.0
        self._heard = True

    async def run(self) -> None:
        """Beats. Raises :class:`gpu_inference.agent.client.Rejected` where the credential is not accepted."""
        while True:
            begun = time.monotonic()
            self._runner.changed.clear()
            await self._beat(begun)
            await asyncio.sleep(max(0.0, begun + QUICKEST - time.monotonic()))
            try:
                await within(self._runner.changed.wait(), max(0.0, begun + BEAT_SECONDS - time.monotonic()))
            except asyncio.TimeoutError:
                continue

    def _message(self, now: float) -> Beat:
        facts: Optional[Dict[str, Any]] = self._telemetry.facts() if now >= self._facts_due else None
        metrics = self._telemetry.metrics() if now >= self._metrics_due else None
        return Beat(
            incarnation=self._incarnation,
            metrics=metrics,
            facts=facts,
            loaded_model=self._engine.loaded_model,
            warm_models=self._engine.spare_models,
            parked_models=self._engine.parked_models,
            state=self._state(),
            holding=self._runner.progress(),
            cache=self._fetcher.report() if self._fetcher is not None and (metrics is not None or self._fetcher.news) else None,
            capabilities=self._changed_capabilities(),
            build=self._builder.report if self._builder is not None else None,
        )

    def _changed_capabilities(self) -> Optional[Capabilities]:
        """What the node can serve, where that is not what was said before."""
        now = capabilities(self._engine, True) if self._fetcher is not None else None
        return now if now != self._said else None

    def _state(self) -> str:
        attempts = self._runner.attempts
        if self._runner.turn.draining:
            return DRAINING
        if self._builder is not None and self._builder.building:
            return BUILDING
        if self._runner.loading is not None:
            return "loading"
        if self._runner.turn.local is not None:
            return SERVING
        if not attempts:
            return "idle" if self._engine.alive else "no_engine"
        return "loading" if attempts[0].progress.phase == "loading" else "working"

    async def _beat(self, now: float) -> None:
        message = self._message(now)
        if self._fetcher is not None:
            self._fetcher.news = False
        try:
            reply = await self._client.beat(message)
        except (Unreachable, Refused, Gone) as error:
            if self._heard:
                logs.warning("The control plane does not take beats.", reason=str(error))
            self._heard = False
            self._facts_due = 0.0
            return
        if not self._heard:
            logs.info("The control plane takes beats again.")
        self._heard = True
        if message.metrics is not None:
            self._metrics_due = now + BEAT_SECONDS * 0.95
        if message.facts is not None:
            self._facts_due = now + FACTS_SECONDS
        self._said = message.capabilities or self._said
        self._runner.stop(reply.stop)
        if self._fetcher is not None:
            self._fetcher.heed(reply)
        if self._builder is not None:
            self._builder.heed(reply.build)
