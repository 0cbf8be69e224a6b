"""What is asked of SSH, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from fleet_api.access.vault.secret import Secret

DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command runs: a host, and a credential of the vault or a secret that the caller brought along.

    ``node_id`` names the machine in sentences, where it has an id.
    """

    host: str
    port: int = 22
    credential_id: str = ""
    secret: Secret | None = field(default=None, repr=False)
    node_id: str | None = None

    @property
    def name(self) -> str:
        """How sentences name it."""
        return self.node_id or f"{self.host} port {self.port}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a command printed and how it ended. Bytes that are not UTF-8 are shown as U+FFFD.

    ``exit_status`` is 128 + n for a command that signal n ended, whose name is in ``signal``. ``truncated`` names the streams of which
    only the first MiB is here. ``note`` says what else a person should know, such as that the login shell is slow.
    """

    stdout: str
    stderr: str
    exit_status: int
    signal: str | None = None
    truncated: tuple[str, ...] = ()
    note: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.exit_status == 0


class Ssh(Protocol):
    """Runs commands on machines. Raises the errors of ``errors.py``."""

    async def run(
        self, target: Target, command: str, *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes | None = None, become: bool = False
    ) -> Result:
        """Run a command in the login shell and return when it has ended; ``become`` runs it as root, in ``/bin/sh``."""
        ...

    def lines(self, target: Target, command: str, *, become: bool = False) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a command and yield its lines as they come; it is ended when the context closes."""
        ...

    def forget(self, address: str, port: int) -> None:
        """Close what is open to an address."""
        ...
