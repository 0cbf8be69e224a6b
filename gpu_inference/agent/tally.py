"""What the agent has done since it started, for ``/metrics``. Seconds are of the wall clock."""

from __future__ import annotations

import time
from collections import Counter
from typing import Counter as CounterOf
from typing import Optional, Tuple

QUEUE, DOOR = "queue", "door"


class Tally:
    """Counts; changed on the event loop only. ``ended`` is by (origin, how it ended: ``completed`` or the kind of the failure)."""

    def __init__(self) -> None:
        self.begun = time.time()
        self.ended: CounterOf[Tuple[str, str]] = Counter()
        self.steps = 0
        self.step_seconds = 0.0
        self.loads = 0
        self.load_seconds = 0.0
        self.engine_starts = 0
        self._loading: Optional[float] = None
        self._stepping: Optional[Tuple[float, int]] = None

    def phase(self, phase: str, step: int, now: float) -> None:
        """The engine says what it is at; ``now`` is of a clock that never runs backwards."""
        if phase == "loading":
            self._loading, self._stepping = now, None
            return
        if self._stepping is not None and step > self._stepping[1]:
            self.steps += step - self._stepping[1]
            self.step_seconds += now - self._stepping[0]
        if phase != "denoising":
            self._stepping = None
        elif self._stepping is None or step > self._stepping[1]:
            self._stepping = (now, step)

    def loaded(self, now: float) -> None:
        """A model is there; one whose loading was not told of was there before."""
        if self._loading is not None:
            self.loads += 1
            self.load_seconds += now - self._loading
            self._loading = None

    def unloaded(self) -> None:
        """No model is there; a load that was begun has failed."""
        self._loading = None

    def begin(self) -> None:
        """Another picture begins."""
        self._stepping = None
