"""What a kind of operation is given while it runs: a place to tell of its progress, and a way to run plays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fleet_api.adapters.ansible.play import Outcome, Play
from fleet_api.errors import FleetError
from fleet_api.operations.journal import Journal
from fleet_api.operations.models import Operation


class OperationFailed(Exception):
    """The operation did not succeed; the text is a sentence for people that says what to do."""


ERROR_STATUS = "error_status"
"""Where an operation's result says which status a row gives that waited for it."""

PlayRunner = Callable[["Work", Play], Awaitable[Outcome]]
Locker = Callable[[str, str], Awaitable[str | None]]


class Work:
    """One running operation. Used on the event loop only."""

    def __init__(self, operation: Operation, journal: Journal, play: PlayRunner, locker: Locker) -> None:
        self.operation = operation
        self.journal = journal
        self.result: dict[str, Any] = {}
        self._play = play
        self._locker = locker

    @property
    def id(self) -> str:
        """The operation's id."""
        return self.operation.id

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for."""
        return self.operation.request

    @property
    def checking(self) -> bool:
        """Whether this is a plan that changes nothing."""
        return self.operation.checking

    def tell(self, type_: str, text: str, node_id: str | None = None, task: str | None = None, **data: Any) -> None:
        """Append an event."""
        self.journal.tell(type_, text, node_id, task, data)

    def step(self, name: str, progress: float) -> None:
        """Note which step it is at, and how far it is in percent; progress never goes back."""
        self.journal.at(name, progress)

    def nodes(self, node_ids: list[str]) -> None:
        """Note which nodes it is about, where the request could not say."""
        self.operation.node_ids = node_ids

    def failed(self, error: FleetError) -> OperationFailed:
        """Note what went wrong, and return what to raise."""
        self.result[ERROR_STATUS] = error.status
        return OperationFailed(error.detail)

    async def lock(self, name: str, called: str = "") -> None:
        """Hold one more node, or what else is ``called`` so. Raises OperationFailed while another operation does."""
        holder = await self._locker(self.id, name)
        if holder is not None:
            what = called or f"Node {name}"
            raise OperationFailed(f"{what} is held by operation {holder}; wait for its end, or cancel it, and try again.")

    async def play(self, play: Play) -> Outcome:
        """Run a play to its end; cancelling the operation ends the play first."""
        return await self._play(self, play)
