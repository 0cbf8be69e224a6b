"""Whose turn it is at the engine: it does one thing at a time, for the control plane or for who asks at the agent's own door."""

from __future__ import annotations

import asyncio
from typing import Optional

from gpu_inference.agent.pace import Pace


class Turn:
    """Taken by one at a time, in the order of coming.

    ``reserved`` is set while no job of the control plane is wanted, although none may be at work: somebody at the door waits or is
    served, or the agent is ``draining``. ``local`` is the pace of the picture that is made for somebody at the door.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._reservations = 0
        self.reserved, self.unreserved = asyncio.Event(), asyncio.Event()
        self.unreserved.set()
        self.draining = False
        self.local: Optional[Pace] = None

    @property
    def taken(self) -> bool:
        """Whether somebody has it."""
        return self._lock.locked()

    def drain(self) -> None:
        """From now on nothing new is begun."""
        if not self.draining:
            self.draining = True
            self.reserve()

    def reserve(self) -> None:
        """No job is asked for until this is taken back by :meth:`release`."""
        self._reservations += 1
        self.reserved.set()
        self.unreserved.clear()

    def release(self) -> None:
        """Takes one :meth:`reserve` back."""
        self._reservations -= 1
        if not self._reservations:
            self.reserved.clear()
            self.unreserved.set()

    async def take(self, given_up: asyncio.Event, seconds: Optional[float] = None) -> bool:
        """Waits for the turn, ``seconds`` at most; False where it did not come, or was ``given_up``. Who has it says :meth:`leave`."""
        taken, up = asyncio.ensure_future(self._lock.acquire()), asyncio.ensure_future(given_up.wait())
        has = False
        try:
            await asyncio.wait([taken, up], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            has = taken.done() and not given_up.is_set()
            return has
        finally:
            if not has and taken.done():
                self._lock.release()
            for task in (taken, up):
                task.cancel()
            await asyncio.gather(taken, up, return_exceptions=True)

    def leave(self) -> None:
        """Lets the next one have it."""
        self._lock.release()
