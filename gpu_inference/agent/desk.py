"""Pictures for who asks at the agent's own door. They take turns with the control plane's jobs, and no job is asked for meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any, Callable, Dict, Optional

from gpu_inference.agent import logs
from gpu_inference.agent.engine_outcome import EngineFailure, Output
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.pace import Pace
from gpu_inference.agent.tally import DOOR
from gpu_inference.agent.turn import Turn

MOST_WAITING = 4
"""So many may wait for their turn; it may be long."""

PICTURE_SECONDS = 600.0
"""So long a picture may take, its model's loading included."""

SOONEST, LATEST = 1.0, 60.0
"""Seconds after which who is sent away is told to come again."""


class Busy(Exception):
    """There is no turn for this now: one sentence, and after how many seconds to come again."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


class Order:
    """A picture that somebody wants. All is used on the event loop only."""

    _numbers = itertools.count(1)

    def __init__(self, payload: Dict[str, Any]) -> None:
        self.payload = payload
        self.key = f"door/{next(self._numbers)}"
        self.gone = asyncio.Event()
        self.at_engine = False


class Desk:
    """``told`` is called when it begins and ends to serve. ``pace`` gives the seconds that the present work still takes, if known."""

    def __init__(self, engine: EngineProcess, turn: Turn, wait_seconds: float) -> None:
        self._engine = engine
        self._turn = turn
        self._wait_seconds = wait_seconds
        self._waiting = 0
        self.told: Callable[[], None] = lambda: None
        self.left: Callable[[], Optional[float]] = lambda: None

    async def picture(self, order: Order) -> Output:
        """Makes it. Raises :class:`Busy`, or :class:`EngineFailure`, of the kind ``cancelled`` where nobody wants it any more."""
        if self._turn.draining:
            raise Busy("The agent is stopping.", LATEST)
        if not self._engine.alive:
            raise Busy("No engine is up on this node.", SOONEST)
        if self._waiting >= MOST_WAITING:
            raise Busy(f"{self._waiting} others wait for a picture already.", self._after())
        self._turn.reserve()
        try:
            self._waiting += 1
            try:
                taken = await self._turn.take(order.gone, self._wait_seconds)
            finally:
                self._waiting -= 1
            if order.gone.is_set() and not taken:
                raise EngineFailure("Nobody waits for the picture any more.", "cancelled", False)
            if not taken:
                raise Busy(f"The node was busy for {self._wait_seconds:g} s.", self._after())
            return await self._make(order)
        finally:
            self._turn.release()

    def cancel(self, order: Order) -> None:
        """Who wanted it has gone."""
        if not order.gone.is_set():
            order.gone.set()
            if order.at_engine:
                self._engine.cancel(order.key)

    async def _make(self, order: Order) -> Output:
        pace = self._turn.local = Pace()
        self.told()

        def progress(step: int, steps: int, phase: str) -> None:
            pace.note(step, steps, phase, time.monotonic())

        result = "completed"
        try:
            await self._engine.ensure_started()
            order.at_engine = True
            if order.gone.is_set():
                raise EngineFailure("Nobody waits for the picture any more.", "cancelled", False)
            return await self._engine.render(order.key, order.payload, progress, PICTURE_SECONDS)
        except EngineFailure as failure:
            result = failure.kind
            logs.info("A picture asked for at the door was not made.", kind=failure.kind, reason=str(failure))
            raise
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        finally:
            order.at_engine = False
            self._engine.tally.ended[DOOR, result] += 1
            self._turn.local = None
            self._turn.leave()
            self.told()

    def _after(self) -> float:
        local, now = self._turn.local, time.monotonic()
        left = local.left(now) if local is not None else self.left()
        return min(LATEST, max(SOONEST, left if left is not None else 5.0))
