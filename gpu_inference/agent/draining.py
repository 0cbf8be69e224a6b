"""Stopping without haste: no more jobs are taken, and the one at work is let finish where that is likely in time."""

from __future__ import annotations

import asyncio
import contextlib
import time

from gpu_inference.agent import logs
from gpu_inference.agent.leases import LeaseLoop
from gpu_inference.agent.runner import Runner
from gpu_inference.agent.within import within

PACELESS_SECONDS = 2.0
"""So long a job is waited for whose pace is not known yet: one that loads its model is given back after this."""

_LOOK_SECONDS = 0.05
_ANSWER_SECONDS = 2.0
_DONE = ("decoding", "saving", "uploading")


class Stopping:
    """Word from the outside that the agent is to end: ``begin`` lets it drain, where there is something that can."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun = asyncio.Event()
        self.can = False

    def begin(self) -> bool:
        """Begins to drain; False where the agent should rather end at once: it drains already, may not, or has nothing to drain."""
        if self.begun.is_set() or not self.can or self.seconds <= 0:
            return False
        self.begun.set()
        return True


async def drain(stopping: Stopping, runner: Runner, leases: LeaseLoop) -> None:
    """Waits until it is told to drain, and then until nothing is left that is worth waiting for."""
    await stopping.begun.wait()
    logs.info("The agent takes no more jobs and stops.", seconds=stopping.seconds)
    begun = time.monotonic()
    runner.drain()
    with contextlib.suppress(asyncio.TimeoutError):
        await within(leases.answered.wait(), _ANSWER_SECONDS)
    while _worth_it(runner, begun, stopping.seconds):  # noqa: ASYNC110 - no event tells of a judgement
        await asyncio.sleep(_LOOK_SECONDS)


def _worth_it(runner: Runner, begun: float, seconds: float) -> bool:
    """Whether there is something at work that will likely have ended ``seconds`` after ``begun``."""
    attempts, local, now = runner.attempts, runner.turn.local, time.monotonic()
    if (not attempts and local is None) or now - begun >= seconds:
        return False
    if local is None and any(attempt.progress.phase in _DONE for attempt in attempts):
        return True
    paces = [local] if local is not None else [attempt.pace for attempt in attempts]
    lefts = [left for left in (pace.left(now) for pace in paces) if left is not None]
    if not lefts:
        return now - begun < PACELESS_SECONDS
    return now - begun + min(lefts) < seconds
