"""Bodies and answers of commands on nodes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from fleet_api.kit.fields import Number, RequestBody, Text
from fleet_api.nodes.commands import Order, Outcome

LONGEST_SECONDS = 3600


class CommandBody(RequestBody):
    """A command for the login shell of the node's user."""

    command: Text = Field(min_length=1, max_length=65_536, examples=["uptime"])
    timeout: Number = Field(60, gt=0, le=LONGEST_SECONDS, description="Seconds that it may run; then its processes are ended")
    become: bool = Field(False, description="Run it as root, by sudo, in /bin/sh")
    stdin: Text | None = Field(None, max_length=262_144, description="What it reads from standard input")

    def order(self) -> Order:
        """Return what to run."""
        return Order(self.command, self.timeout, self.become, self.stdin)


class NodeCommandBody(CommandBody):
    """A command for one node."""

    node_id: Text = Field(min_length=1, max_length=64, examples=["agx0"])


class ManyBody(CommandBody):
    """A command for many nodes: ``node_ids``, or all of a ``cluster``."""

    node_ids: list[Annotated[Text, Field(min_length=1, max_length=64)]] | None = Field(None, min_length=1, max_length=500)
    cluster: Text | None = Field(None, min_length=1, max_length=100)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.node_ids is None) == (self.cluster is None):
            raise ValueError("Either node_ids or cluster is required, and not both")
        return self


class CommandView(BaseModel):
    """How a command ended. ``exit_status`` is 128 + n where signal n ended it; ``truncated`` names streams cut at 1 MiB."""

    node_id: str = Field(examples=["agx0"])
    host: str = Field(examples=["192.0.2.10"])
    stdout: str
    stderr: str
    exit_status: int = Field(examples=[0])
    signal: str | None = Field(examples=[None])
    truncated: list[str] = Field(examples=[[]])
    note: str | None = Field(description="What else to know, such as a login shell that is slow", examples=[None])
    seconds: float

    @classmethod
    def of(cls, outcome: Outcome) -> CommandView:
        """Return an outcome without an error as callers see it."""
        assert outcome.result is not None
        return cls(node_id=outcome.node_id, host=outcome.host, **_fields(outcome))


class NodeOutcome(BaseModel):
    """How a command ended on one of many nodes: as for one, or ``error`` with the status that one would have answered with."""

    node_id: str
    host: str
    stdout: str
    stderr: str
    exit_status: int | None = Field(description="null where it did not run to its end")
    signal: str | None
    truncated: list[str]
    note: str | None
    seconds: float | None
    error: str | None
    status: int = Field(description="200, or the status of the error", examples=[200])

    @classmethod
    def of(cls, outcome: Outcome) -> NodeOutcome:
        """Return an outcome as callers see it."""
        error = outcome.error
        fields = _fields(outcome)
        if error is not None:
            fields["exit_status"] = None
        return cls(
            node_id=outcome.node_id, host=outcome.host, **fields, error=error.detail if error else None,
            status=error.status if error else 200,
        )  # fmt: skip


class ManyOutcomes(BaseModel):
    """Every node's outcome, by node; ``ok`` counts those that ended with 0."""

    results: list[NodeOutcome]
    ok: int
    failed: int


class FingerprintBody(RequestBody):
    """The key that was shown, by its fingerprint."""

    fingerprint: Text = Field(max_length=80, pattern=r"^SHA256:[A-Za-z0-9+/]{43}=?$", examples=["SHA256:" + "A" * 43])


class HostKeyView(BaseModel):
    """The host key that is pinned for a node now."""

    node_id: str
    host: str
    fingerprint: str


def _fields(outcome: Outcome) -> dict[str, object]:
    result = outcome.result
    if result is None:
        return {"stdout": "", "stderr": "", "exit_status": None, "signal": None, "truncated": [], "note": None, "seconds": None}
    return {
        "stdout": result.stdout, "stderr": result.stderr, "exit_status": result.exit_status, "signal": result.signal,
        "truncated": list(result.truncated), "note": result.note, "seconds": result.seconds,
    }  # fmt: skip
