"""Plays for tests: a script of events and an outcome, with the same promises on cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fleet_api.adapters.ansible.play import Outcome, Play, Told


class FakePlays:
    """Tells ``events``, waits for ``gate`` where there is one, and returns ``outcome``."""

    def __init__(self, events: Sequence[Told] = (), outcome: Outcome | None = None) -> None:
        self.events = list(events)
        self.outcome = outcome
        self.gate: asyncio.Event | None = None
        self.seen: list[Play] = []
        self.running: set[str] = set()
        self.most_at_once = 0
        self.survivors: list[str] = []

    async def run(self, operation_id: str, play: Play, checking: bool, told: Callable[[Told], None]) -> Outcome:
        """See :class:`Plays`."""
        self.seen.append(play)
        self.running.add(operation_id)
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            for event in self.events:
                told(event)
            if self.gate is not None:
                await self.gate.wait()
            return self.outcome or Outcome(code=0, hosts=dict.fromkeys(play.hosts, "ok"))
        finally:
            self.running.discard(operation_id)

    async def end_survivors(self) -> list[str]:
        """See :class:`Plays`."""
        return self.survivors
