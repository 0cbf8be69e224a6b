"""What onboarding and plays want of SSH: a command on a machine, and the machine's pinned host key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fleet_api.access.host_keys import HostKeys
from fleet_api.adapters.ssh.types import Result, Ssh, Target


class Remote(Protocol):
    """Runs commands on machines, each with a credential of the vault; the first contact pins the host key."""

    async def run(
        self, address: str, port: int, credential_id: str, command: str, *, timeout: float = 30.0, become: bool = False
    ) -> Result:
        """Run a command. Raises FleetError with a sentence: refused, not reachable, another host key, no such credential."""
        ...

    def lines(self, address: str, port: int, credential_id: str, command: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a command and yield its lines as they come; it is ended when the context closes. Raises as :meth:`run`."""
        ...

    def forget(self, address: str, port: int) -> None:
        """Close what is open to a machine: the next command signs in anew, and so proves key, credential and groups."""
        ...

    async def known_hosts(self, address: str, port: int) -> str:
        """Return the pinned keys as lines of a known_hosts file."""
        ...


class OverSsh:
    """The real thing: kept connections, and the table of host keys."""

    def __init__(self, ssh: Ssh, host_keys: HostKeys) -> None:
        self._ssh = ssh
        self._host_keys = host_keys

    async def run(
        self, address: str, port: int, credential_id: str, command: str, *, timeout: float = 30.0, become: bool = False
    ) -> Result:
        """See :class:`Remote`."""
        return await self._ssh.run(Target(address, port, credential_id), command, timeout=timeout, become=become)

    def lines(self, address: str, port: int, credential_id: str, command: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See :class:`Remote`."""
        return self._ssh.lines(Target(address, port, credential_id), command)

    def forget(self, address: str, port: int) -> None:
        """See :class:`Remote`."""
        self._ssh.forget(address, port)

    async def known_hosts(self, address: str, port: int) -> str:
        """See :class:`Remote`."""
        return known_hosts_lines(address, port, await self._host_keys.pinned(address, port))


def known_hosts_lines(address: str, port: int, keys: list[str]) -> str:
    """Return lines of an OpenSSH known_hosts file for public keys of an address."""
    name = address if port == 22 else f"[{address}]:{port}"
    return "".join(f"{name} {key}\n" for key in keys)
