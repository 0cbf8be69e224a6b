"""How long a picture will still take, from the steps it has taken. Pure."""

from __future__ import annotations

from typing import Optional, Tuple

AFTER_STEPS = 2.0
"""What comes after the steps, decoding and saving, is taken for as long as so many of them."""

_STEPPING = "denoising"


class Pace:
    """Told of every step as it begins; times are seconds of one clock that never runs backwards."""

    def __init__(self) -> None:
        self._first: Optional[Tuple[float, int]] = None
        self._last: Optional[Tuple[float, int]] = None
        self._steps = 0
        self._stepped = False

    def note(self, step: int, steps: int, phase: str, now: float) -> None:
        """``step`` of ``steps`` are done; a step of several calls of the model is told at each of them."""
        if phase == _STEPPING:
            self._first = self._first or (now, step)
            if self._last is None or step > self._last[1]:
                self._last = (now, step)
            self._steps = steps
        elif self._first is not None:
            self._stepped = True

    def step_seconds(self) -> Optional[float]:
        """The mean of the steps so far; None before there was one."""
        if self._first is None or self._last is None or self._last[1] == self._first[1]:
            return None
        return (self._last[0] - self._first[0]) / (self._last[1] - self._first[1])

    def left(self, now: float) -> Optional[float]:
        """Seconds until the picture is made, None where that cannot be told yet; 0 once every step is done."""
        if self._stepped:
            return 0.0
        each = self.step_seconds()
        if each is None or self._last is None:
            return None
        there, step = self._last
        return max(0.0, there + each * (self._steps - step + AFTER_STEPS) - now)
