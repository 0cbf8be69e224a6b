"""A run of one playbook: what goes in, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Play:
    """A playbook and its inventory. ``hosts`` and ``variables`` may hold secrets, so a play is kept in memory alone.

    ``hosts`` are host variables by node id, ``groups`` node ids by group, ``variables`` go to every host. ``known_hosts`` is the
    text of an OpenSSH known_hosts file; ``steps`` are the playbook's roles in order; ``secrets`` must not appear in any event.
    ``helpers`` are host variables of machines that tasks may be delegated to, and that the playbook is not for.
    """

    playbook: str
    hosts: dict[str, dict[str, Any]] = field(repr=False)
    groups: dict[str, list[str]] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict, repr=False)
    known_hosts: str = ""
    steps: tuple[str, ...] = ()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    forks: int = 0
    helpers: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Outcome:
    """How a play ended. ``hosts`` says ``ok``, ``failed``, ``unreachable`` or ``unknown`` of each (``ok`` only where Ansible's summary says
    so); ``reasons`` holds the first failure's sentence."""

    code: int
    hosts: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    stats: dict[str, dict[str, int]] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether every host is through."""
        return self.code == 0 and all(state == "ok" for state in self.hosts.values())


Told = dict[str, Any]
"""An event of a play: type, text, node_id, task, role and data."""


class Plays(Protocol):
    """Runs plays."""

    async def run(self, operation_id: str, play: Play, checking: bool, told: Callable[[Told], None]) -> Outcome:
        """Run a play to its end. When cancelled it first ends every process of the play on this machine."""
        ...

    async def end_survivors(self) -> list[str]:
        """End what is left of plays of an earlier life of the control plane; return the operations they belonged to."""
        ...
