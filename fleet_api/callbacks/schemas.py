"""Messages as callers see them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from fleet_api.callbacks.models import Delivery
from fleet_api.kit.clock import rfc3339


class DeliveryAttempt(BaseModel):
    """One try at a message: what the receiver answered, or why there was no answer."""

    at: str
    status_code: int | None = None
    error: str | None = None
    seconds: float = Field(description="How long it took")


class DeliveryView(BaseModel):
    """A message about the end of a job. Of many attempts the newest are kept."""

    id: str = Field(description="The message's webhook-id, the same at every attempt", examples=["msg_0123456789abcdef0123456789abcdef"])
    event: str = Field(examples=["job.completed"])
    status: str = Field(description="pending, retrying, delivered or gave_up", examples=["delivered"])
    url: str
    attempts: list[DeliveryAttempt]
    next_attempt_at: str | None = None
    created_at: str
    delivered_at: str | None = None

    @classmethod
    def of(cls, row: Delivery) -> DeliveryView:
        """Return a message as callers see it."""
        return cls(
            id=row.id, event=row.event, status=row.status, url=row.url, attempts=[DeliveryAttempt(**each) for each in row.attempts],
            next_attempt_at=rfc3339(row.next_attempt_at), created_at=rfc3339(row.created_at) or "", delivered_at=rfc3339(row.delivered_at),
        )  # fmt: skip


class DeliveryList(BaseModel):
    """A page of a job's messages, newest first."""

    deliveries: list[DeliveryView]
    total: int
