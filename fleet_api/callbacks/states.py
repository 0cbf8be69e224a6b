"""Where a message stands, and what an attempt makes of that. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleet_api.callbacks import backoff

GONE = 410


class DeliveryState(StrEnum):
    """Where a message stands; what a job says of its callback, too."""

    PENDING = "pending"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    GAVE_UP = "gave_up"


NOT_SENT = "not_sent"
"""Of a job that ended before callbacks were delivered."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went. ``told`` is how many seconds the receiver asked to be left alone."""

    status_code: int | None = None
    error: str | None = None
    told: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the receiver has it."""
        return self.error is None


def read(status_code: int, told: float | None) -> Outcome:
    """Return what an answer's status means: nothing but 2xx is a success."""
    if 200 <= status_code < 300:
        return Outcome(status_code)
    if 300 <= status_code < 400:
        return Outcome(status_code, "The receiver answered with a redirect, and none is followed.")
    if status_code == GONE:
        return Outcome(status_code, "The receiver wants no more calls here (410 Gone).")
    return Outcome(status_code, f"The receiver answered with status {status_code}.", told)


def after(outcome: Outcome, failures: int) -> tuple[DeliveryState, float | None]:
    """Return the state after an attempt, the last of so many failures in a row, and the seconds until the next; None if there is none."""
    if outcome.taken:
        return DeliveryState.DELIVERED, None
    wait = None if outcome.status_code == GONE else backoff.wait(failures, outcome.told)
    return (DeliveryState.GAVE_UP, None) if wait is None else (DeliveryState.RETRYING, wait)
