"""Which operation holds which node.

Memory is the truth, as one process owns the data folder; rows are kept for people to see, and cleared at the start.

A name is a node's id or its address: an operation takes both, so that a machine is held under whichever name somebody knows it.
Every method is synchronous, so that nothing comes in between a look and a change.
"""

from __future__ import annotations

from collections.abc import Iterable


class NodeLocks:
    """One instance a process, used on the event loop only."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}

    def take(self, names: Iterable[str], operation_id: str) -> bool:
        """Take every name for an operation, or none; return whether they were free."""
        wanted = set(names)
        if any(self._holders.get(name, operation_id) != operation_id for name in wanted):
            return False
        self._holders.update(dict.fromkeys(wanted, operation_id))
        return True

    def holder(self, name: str) -> str | None:
        """Return the operation that holds a name."""
        return self._holders.get(name)

    def release(self, operation_id: str, name: str | None = None) -> None:
        """Free what an operation holds, or one name of it."""
        self._holders = {
            each: holder for each, holder in self._holders.items() if holder != operation_id or (name is not None and each != name)
        }
