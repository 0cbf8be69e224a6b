"""A two-way stream of bytes to a Unix socket on a machine: by SSH's own forwarding, else through a command as root.

Who signs in is seldom in the group that may use the socket. The server then refuses the forwarding, and a bridge on the machine, run by
sudo, joins the socket with its standard streams.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from weakref import WeakSet

import asyncssh

from fleet_api.adapters.ssh.become import Sudo
from fleet_api.adapters.ssh.client import SshClient
from fleet_api.adapters.ssh.errors import BecomeRefused, ConnectionBroke, NoSshServer
from fleet_api.adapters.ssh.pool import Kept
from fleet_api.adapters.ssh.types import Target

OPEN_SECONDS = 8.0
SAID = 4096  # bytes of what a bridge says on its standard error that are looked at


class Wire(Protocol):
    """Bytes both ways."""

    async def send(self, data: bytes) -> None:
        """Send, no faster than the other side takes it."""
        ...

    async def receive(self, most: int) -> bytes:
        """Return what came; empty at the end."""
        ...

    def end(self) -> None:
        """Say that nothing more is sent."""
        ...


class Wires(Protocol):
    """Opens wires. Raises the errors of ``errors.py``."""

    def wire(self, target: Target, path: str, bridge: str) -> AbstractAsyncContextManager[Wire]:
        """Open a wire to the socket at ``path``; ``bridge`` is the command that reaches it as root."""
        ...


class SshWire:
    """A wire on an SSH channel."""

    def __init__(self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """See :class:`Wire`."""
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self, most: int) -> bytes:
        """See :class:`Wire`."""
        try:
            return await self._reader.read(most)
        except asyncssh.Error:
            return b""

    def end(self) -> None:
        """See :class:`Wire`."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()


class SshWires:
    """One instance a process, over the same kept connections as commands."""

    def __init__(self, ssh: SshClient) -> None:
        self._ssh = ssh
        self._closed: WeakSet[asyncssh.SSHClientConnection] = WeakSet()
        """Connections whose user may not use the sockets."""

    @asynccontextmanager
    async def wire(self, target: Target, path: str, bridge: str) -> AsyncIterator[Wire]:
        """See :class:`Wires`."""
        async with self._ssh.pool.lent(target) as kept:
            connection = kept.opening.result()
            direct = None if connection in self._closed else await self._direct(kept, target, path)
            if direct is not None:
                try:
                    yield direct[0]
                finally:
                    direct[1].close()
                return
            self._closed.add(connection)
            async with self._ssh.session_of(kept, target):
                process = await self._process(kept, target, bridge)
                try:
                    yield SshWire(process.stdout, process.stdin)
                finally:
                    process.close()

    async def _direct(self, kept: Kept, target: Target, path: str) -> tuple[SshWire, Any] | None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                reader, writer = await kept.opening.result().open_unix_connection(path, encoding=None)
        except asyncssh.ChannelOpenError:
            if kept.dead:
                self._ssh.pool.drop(kept)
                raise ConnectionBroke(f"The connection to {target.name} ended just now; try again.") from None
            return None
        except (TimeoutError, OSError, asyncssh.Error):
            self._ssh.pool.drop(kept)
            raise ConnectionBroke(f"{target.name} has stopped answering on its open connection; try again.") from None
        return SshWire(reader, writer), writer

    async def _process(self, kept: Kept, target: Target, bridge: str) -> asyncssh.SSHClientProcess[bytes]:
        sudo = await self._ssh.sudo(target)
        command = sudo.command(bridge) if sudo is not None else bridge
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                process = await kept.opening.result().create_process(command, encoding=None)
                if sudo is not None:
                    await _let_in(process, sudo, target)
        except TimeoutError:
            self._ssh.pool.drop(kept)
            raise ConnectionBroke(f"{target.name} has stopped answering on its open connection; try again.") from None
        except asyncssh.ChannelOpenError as error:
            raise NoSshServer(f"{target.name} opens no session for its engine ({error.reason}); look at its SSH server's log.") from None
        except (OSError, asyncssh.Error) as error:
            self._ssh.pool.drop(kept)
            raise ConnectionBroke(f"The connection to {target.name} is broken ({error}); try again.") from None
        return process


async def _let_in(process: asyncssh.SSHClientProcess[bytes], sudo: Sudo, target: Target) -> None:
    """Answer sudo until the bridge runs. Raises BecomeRefused."""
    while not sudo.started:
        data = await process.stderr.read(SAID)
        _, answer = sudo.feed(data)
        if answer is not None:
            process.stdin.write(answer.encode() + b"\n")
        if not sudo.started and (not data or sudo.refusal):
            process.close()
            raise BecomeRefused(
                f"The user that {target.name} is reached with may neither use Docker's socket nor run commands as root: {sudo.why()}; set "
                "the credential's become_password, or put the user into the group docker there."
            )
