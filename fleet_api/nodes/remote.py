"""What onboarding wants of SSH: a command on a machine, and the machine's pinned host key."""

from __future__ import annotations

from typing import Protocol


class Answered(Protocol):
    """How a command ended."""

    @property
    def stdout(self) -> str: ...

    @property
    def stderr(self) -> str: ...

    @property
    def exit_status(self) -> int: ...


class Remote(Protocol):
    """Runs commands on machines, each with a credential of the vault; the first contact pins the host key."""

    async def run(
        self, address: str, port: int, credential_id: str, command: str, *, timeout: float = 30.0, become: bool = False
    ) -> Answered:
        """Run a command. Raises FleetError with a sentence: refused, not reachable, another host key, no such credential."""
        ...

    async def known_hosts(self, address: str, port: int) -> str:
        """Return the pinned key as lines of a known_hosts file."""
        ...
