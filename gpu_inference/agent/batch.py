"""The pictures that an engine child makes at once, as its agent sees them: each with its own end, limit and cancel."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from gpu_inference.agent.engine_outcome import EngineFailure, Output
from gpu_inference.engine import wire

Progress = Callable[[int, int, str], None]
Limit = Tuple[float, str, str]
"""When it is over, the sentence that is then said, and the kind of the failure."""


def unseen(_step: int, _jpeg: bytes) -> None:
    """A preview that nobody looks at."""


class Order:
    """A picture that is wanted within ``seconds``; ``outcome`` is its :class:`Output`, or an :class:`EngineFailure`."""

    def __init__(
        self,
        job: str,
        payload: Dict[str, Any],
        progress: Progress,
        seconds: float,
        preview: Callable[[int, bytes], None] = unseen,
        outcome: Optional[asyncio.Future[Output]] = None,
    ) -> None:
        self.job, self.payload, self.seconds = job, payload, seconds
        self.progress, self.preview = progress, preview
        self.outcome: asyncio.Future[Output] = outcome or asyncio.get_running_loop().create_future()
        self.due = 0.0
        self.cancel_due: Optional[float] = None
        self.late = False

    @property
    def open(self) -> bool:
        """Whether it has not ended yet."""
        return not self.outcome.done()

    def fail(self, failure: EngineFailure) -> None:
        """It has ended without a picture."""
        if self.open:
            self.outcome.set_exception(failure)
            self.outcome.exception()  # whether somebody looks or not


class Batch:
    """Orders at the engine since ``now``. Times are seconds of one clock that never runs backwards."""

    def __init__(self, orders: Sequence[Order], now: float) -> None:
        self.orders = list(orders)
        for order in orders:
            order.due = now + order.seconds

    def message(self) -> Dict[str, Any]:
        """What the child is told."""
        first, *more = ({"job": order.job, "payload": order.payload} for order in self.orders)
        return {"type": "render", **first, **({"companions": more} if more else {})}

    def open(self) -> List[Order]:
        """Those that have not ended."""
        return [order for order in self.orders if order.open]

    def cancel(self, job: str, due: float) -> bool:
        """A job is to end before ``due``; False where nothing is to be done about it."""
        for order in self.open():
            if order.job == job and order.cancel_due is None:
                order.cancel_due = due
                return True
        return False

    def overdue(self, now: float) -> List[str]:
        """Jobs whose time is over while others are made beside them: they are to be cancelled, and the child is not ended for them."""
        there = self.open()
        found = [order for order in there if order.due <= now and order.cancel_due is None] if len(there) > 1 else []
        for order in found:
            order.late = True
        return [order.job for order in found]

    def limits(self, cancel_timeout: float) -> List[Limit]:
        """When the child is to be ended for its orders: none is worth another's picture, so not before nobody waits for one."""
        there, limits = self.open(), []
        cancelled = [order.cancel_due for order in there if order.cancel_due is not None]
        if cancelled and len(cancelled) == len(there):
            late = f"The engine did not obey a cancel within {cancel_timeout:g} s and was ended."
            limits.append((max(cancelled), late, "cancel_timeout"))
        if len(there) == 1 and not there[0].late:
            limits.append((there[0].due, "The job took longer than it may.", "timeout"))
        return limits

    def heed(self, frame: wire.Frame) -> Optional[str]:
        """Takes in what the child says of one of the orders; returns what it was, or None where it is about none of them."""
        message = frame.message
        order = next((each for each in self.open() if each.job == message.get("job")), None)
        if order is None:
            return None
        if frame.type == "preview":
            order.preview(int(message.get("step") or 0), frame.blob)
        elif frame.type == "progress":
            order.progress(int(message["step"]), int(message["steps"]), str(message["phase"]))
        elif frame.type == "phase":
            order.progress(0, 0, str(message["phase"]))
        elif frame.type == "result":
            order.outcome.set_result(Output(dict(message["result"]), frame.blob))
        elif frame.type == "error":
            failure = EngineFailure(str(message["error"]), str(message["kind"]), bool(message["retry"]))
            order.fail(_too_late() if order.late and failure.kind == "cancelled" else failure)
        return frame.type

    def fail(self, failure: EngineFailure) -> None:
        """All that is open has failed with this."""
        for order in self.open():
            order.fail(_too_late() if order.late else failure)


def _too_late() -> EngineFailure:
    return EngineFailure("The job took longer than it may.", "timeout")
