"""Every error a caller can meet: a class with a status and one sentence to act on."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel


class ErrorBody(BaseModel):
    """The body of every error."""

    detail: str


class FleetError(Exception):
    """Base of all expected errors; its message is shown to the caller as it is."""

    status: ClassVar[int] = 500
    meaning: ClassVar[str] = "Unexpected error"

    def __init__(self, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers


class InvalidValue(FleetError):
    """A field holds what it may not."""

    status = 400
    meaning = "A value is missing, of the wrong type or out of range; the sentence names the field, the value and what is allowed"


class Unauthorized(FleetError):
    """No credential, or one that is not known."""

    status = 401
    meaning = "The credential is missing or not known"


class Forbidden(FleetError):
    """Known, but not allowed; or from where nobody is let in."""

    status = 403
    meaning = "The caller's role does not allow it, or the request's Host or Origin is not allowed"


class NotFound(FleetError):
    """What was named does not exist."""

    status = 404
    meaning = "What was named does not exist; for a model the sentence lists what there is"


class Conflict(FleetError):
    """The request does not fit the present state."""

    status = 409
    meaning = "The request does not fit the present state"


class HomeBusy(Conflict):
    """Another control plane uses this data folder."""


class PortBusy(Conflict):
    """Something else listens there."""


class AttemptClosed(FleetError):
    """A late word about an attempt that has ended."""

    status = 410
    meaning = "The attempt was closed: cancelled, lapsed or taken over"


class TooLarge(FleetError):
    """More bytes than are taken."""

    status = 413
    meaning = "The body is larger than this operation takes"


class IdempotencyMismatch(FleetError):
    """One key, two different requests."""

    status = 422
    meaning = "The Idempotency-Key was used before with another request"


class TooMany(FleetError):
    """Come again later."""

    status = 429
    meaning = "The queue is full, or the caller creates too fast; Retry-After says when to come again"


class QueueFull(TooMany):
    """No room for another job."""


class RateLimited(TooMany):
    """The caller creates faster than it may."""


class Unavailable(FleetError):
    """No node or backend can serve this."""

    status = 503
    meaning = "No node or backend can serve this; the sentence says why"


class SchemaTooNew(Unavailable):
    """The database was written by a newer version."""


class Timeout(FleetError):
    """Not ready in time."""

    status = 504
    meaning = "Not ready in time"


_BY_STATUS: dict[int, type[FleetError]] = {
    kind.status: kind
    for kind in (
        InvalidValue, Unauthorized, Forbidden, NotFound, Conflict, AttemptClosed, TooLarge, IdempotencyMismatch, TooMany, Unavailable,
        Timeout,
    )
}  # fmt: skip


def error_of(status: object) -> type[FleetError]:
    """Return the error of a status; a Conflict for one that is none of ours."""
    return _BY_STATUS.get(status, Conflict) if isinstance(status, int) else Conflict


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's ``responses`` for the given error statuses, each with its meaning."""
    return {status: {"model": ErrorBody, "description": _BY_STATUS[status].meaning} for status in statuses}
