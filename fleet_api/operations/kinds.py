"""What an operation of each kind does. A kind is an object with one coroutine; the service runs it, tells of it and ends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from fleet_api.errors import InvalidValue
from fleet_api.operations.work import Work

LOST = "The control plane ended while this ran. What it was doing on the nodes has been stopped; try again with a retry."
LEFT = "The control plane ended while it waited for this. What was begun may have gone on: look at it, then try again with a retry."


class Kind(Protocol):
    """One kind of operation. ``request`` is what was asked for: plain JSON without secrets, kept for a retry."""

    name: str
    waits_only: bool
    """Whether others do the work, operations or a swarm's managers, so that it takes none of the places of those at work."""

    def title(self, request: dict[str, Any]) -> str:
        """Return what the operation is called, for people."""
        ...

    def locks(self, request: dict[str, Any]) -> list[str]:
        """Return the nodes and addresses that it must hold alone while it runs."""
        ...

    async def run(self, work: Work) -> None:
        """Do it. Raises OperationFailed with a sentence; CancelledError passes through."""
        ...

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """Return the request of a retry: what went well is left out. Raises FleetError where it cannot be tried now."""
        ...


class Kinds:
    """Every kind by its name."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._kinds = {kind.name: kind for kind in kinds}

    def add(self, kind: Kind) -> None:
        """Add a kind."""
        self._kinds[kind.name] = kind

    def lost(self, name: str) -> str:
        """Return what became of an operation that ran when the control plane ended."""
        kind = self._kinds.get(name)
        return LEFT if kind is not None and kind.waits_only else LOST

    def __getitem__(self, name: str) -> Kind:
        if name not in self._kinds:
            raise InvalidValue(f"kind must be one of {', '.join(sorted(self._kinds))}; it is {name!r}.")
        return self._kinds[name]
