"""Commands over kept connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import asyncssh
import structlog

from fleet_api.adapters.ssh.become import Sudo, ending
from fleet_api.adapters.ssh.errors import BecomeRefused, CommandFailed, CommandTimeout, ConnectionBroke, NoSshServer, TooManyConnections
from fleet_api.adapters.ssh.pool import SESSIONS, Kept, Pool
from fleet_api.adapters.ssh.session import Session, end
from fleet_api.adapters.ssh.stream import LineSession
from fleet_api.adapters.ssh.types import DEFAULT_TIMEOUT, Result, Target

log = structlog.get_logger()

Channel = asyncssh.SSHClientChannel[bytes]

SLOW_SHELL_SECONDS = 0.1
LOOK_SECONDS = 2.0
CLOSED = "SSH connection closed"  # asyncssh: there is no connection any more, though its end was not told yet
ALONE_SECONDS = 1.0  # what a server may take to let go of the session before
OPEN_SECONDS = 10.0  # how long a further session on a connection is tried for


class SshClient:
    """Runs commands on machines over the pool's connections; see :class:`fleet_api.adapters.ssh.types.Ssh`."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def run(
        self, target: Target, command: str, *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes | None = None, become: bool = False
    ) -> Result:
        """Run a command and return when it has ended. ``timeout`` counts from when the connection is there.

        Raises CommandTimeout, ConnectionBroke, BecomeRefused, and what opening a connection raises.
        """
        for last in (False, True):
            try:
                async with self.pool.lent(target) as kept:
                    sudo = await self.sudo(target) if become else None
                    return await self._run(kept, target, command, timeout, stdin, sudo)
            except _Stale as error:  # it had ended before the command was sent: nothing has run, and a new one may do
                if last:
                    raise ConnectionBroke(str(error)) from None
        raise AssertionError

    @asynccontextmanager
    async def lines(self, target: Target, command: str, *, become: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the lines that a command prints, as they come; it is ended when the context closes. Raises as :meth:`run`."""
        async with self.pool.lent(target) as kept:
            sudo = await self.sudo(target) if become else None
            session = LineSession()
            try:
                channel = await self._start(kept, target, command, session, sudo, None)
            except _Stale as error:
                raise ConnectionBroke(str(error)) from None
            try:
                yield self._following(session, sudo, target)
            finally:
                await asyncio.shield(self._stop(target, channel, session, sudo))

    def forget(self, address: str, port: int) -> None:
        """Close what is open to an address."""
        self.pool.forget(address, port)

    async def sudo(self, target: Target) -> Sudo | None:
        """Return what talks with sudo; None for who is root already."""
        secret = target.secret or await self.pool.vault.open(target.credential_id)
        return None if secret.username == "root" else Sudo(secret.become_password or secret.password)

    async def _run(self, kept: Kept, target: Target, command: str, timeout: float, stdin: bytes | None, sudo: Sudo | None) -> Result:
        loop = asyncio.get_running_loop()
        async with self.session_of(kept, target):
            started, session = loop.time(), Session()
            channel = await self._start(kept, target, command, session, sudo, stdin)
            try:
                await asyncio.wait({session.ended}, timeout=timeout)
                if not session.ended.done():
                    stopped = await self._stop(target, channel, session, sudo)
                    so_far = _result(session, loop.time() - started)
                    how = "was stopped" if stopped else "could not be stopped"
                    raise CommandTimeout(
                        f"The command did not end within {timeout:g} s on {target.name} and {how}; give it a longer timeout.", so_far
                    )
            except asyncio.CancelledError:
                await asyncio.shield(self._stop(target, channel, session, sudo))
                raise
            took = loop.time() - started
        if sudo is not None and not sudo.started and session.ended.result() is None:
            self.pool.drop(kept)  # groups are given at sign-in: who is allowed to meanwhile, is so on the next connection
            raise _not_root(target, sudo)
        if not session.finished:
            raise ConnectionBroke(f"The connection to {target.name} broke while the command ran; whether it came to its end is not known.")
        if not kept.looked:
            kept.looked = True
            if took > SLOW_SHELL_SECONDS:
                kept.slow = await self._slow_shell(kept, target)
        return replace(_result(session, took), note=kept.slow)

    @asynccontextmanager
    async def session_of(self, kept: Kept, target: Target) -> AsyncIterator[None]:
        """Take one of the connection's sessions. Raises TooManyConnections where none becomes free."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await kept.sessions.acquire()
        except TimeoutError:
            raise TooManyConnections(f"{SESSIONS} commands run on {target.name} already; try again when one has ended.") from None
        try:
            yield
        finally:
            kept.sessions.release()

    async def _start(self, kept: Kept, target: Target, command: str, session: Session, sudo: Sudo | None, stdin: bytes | None) -> Channel:
        """Start a command. A further session that the server will not open now is tried again for a while."""
        if sudo is not None:
            session.talk = _Talk(sudo, stdin)
        line = sudo.command(command) if sudo is not None else command
        deadline = asyncio.get_running_loop().time() + OPEN_SECONDS
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    channel, _ = await kept.opening.result().create_session(lambda: session, line, encoding=None)
                break
            except asyncio.CancelledError:  # the server may have started it already
                if session.channel is not None:
                    await asyncio.shield(end(session.channel, session))
                raise
            except TimeoutError:
                self.pool.drop(kept)
                raise ConnectionBroke(f"{target.name} has stopped answering on its open connection; try again.") from None
            except asyncssh.ChannelOpenError as error:
                if kept.dead or error.reason == CLOSED:
                    self.pool.drop(kept)
                    raise _Stale(f"The connection to {target.name} ended just now; try again.") from None
                now = asyncio.get_running_loop().time()
                alone = kept.users < 2 and now > deadline - OPEN_SECONDS + ALONE_SECONDS
                if now > deadline - 1 or alone:
                    self.pool.drop(kept)
                    raise NoSshServer(
                        f"{target.name} opens no session for a command ({error.reason}); look at its SSH server's log."
                    ) from None
                await asyncio.sleep(0.1)
            except (asyncssh.Error, OSError) as error:
                self.pool.drop(kept)
                raise ConnectionBroke(f"The connection to {target.name} is broken ({error}); see whether the command ran.") from None
        if sudo is None:
            with contextlib.suppress(OSError):  # a command may end before it has read anything
                if stdin:
                    channel.write(stdin)
                channel.write_eof()
        return cast(Channel, channel)

    async def _stop(self, target: Target, channel: Channel, session: Session, sudo: Sudo | None) -> bool:
        """End a command and all of its processes; say whether that worked."""
        if session.ended.done():
            return True
        if sudo is not None and sudo.started:
            with contextlib.suppress(Exception):  # a signal from the user does not reach what runs as root
                async with self.pool.lent(target) as kept:
                    await self._run_briefly(kept, target, ending(sudo.mark), await self.sudo(target))
        return await end(channel, session)

    async def _run_briefly(self, kept: Kept, target: Target, command: str, sudo: Sudo | None = None) -> Session:
        session = Session()
        channel = await self._start(kept, target, command, session, sudo, None)
        await asyncio.wait({session.ended}, timeout=LOOK_SECONDS)
        channel.close()
        return session

    async def _slow_shell(self, kept: Kept, target: Target) -> str | None:
        """Look how long a command takes that does nothing; the quicker of two, as the machine may be busy."""
        loop = asyncio.get_running_loop()
        took = []
        for _ in range(2):
            started = loop.time()
            try:
                await self._run_briefly(kept, target, "true")
            except (ConnectionBroke, NoSshServer, _Stale):
                return None
            took.append(loop.time() - started)
            if took[-1] < SLOW_SHELL_SECONDS:
                return None
        log.info("slow_login_shell", node=target.name, seconds=round(min(took), 3))
        return (
            f"The login shell of {target.name} takes {min(took) * 1000:.0f} ms to start, which every command pays; look into the start-up "
            "files of that user's shell."
        )

    async def _following(self, session: LineSession, sudo: Sudo | None, target: Target) -> AsyncIterator[bytes]:
        async for line in session:
            yield line
        if sudo is not None and not sudo.started:
            raise _not_root(target, sudo)
        if session.ended.result() is not None:
            raise ConnectionBroke(f"The connection to {target.name} broke; try again.")
        if session.status:
            last = session.stderr.strip().splitlines()[-1][:300] if session.stderr.strip() else "without a word"
            raise CommandFailed(f"The command on {target.name} ended with {session.status}: {last}")


class _Stale(Exception):
    """The kept connection had ended before anything was sent on it."""


class _Talk:
    """Answers sudo on a command's channel, then gives the command its standard input."""

    def __init__(self, sudo: Sudo, stdin: bytes | None) -> None:
        self._sudo = sudo
        self._stdin = stdin

    def __call__(self, channel: Channel, data: bytes, stderr: bool) -> bytes:
        if not stderr or self._sudo.started:
            return data
        data, answer = self._sudo.feed(data)
        with contextlib.suppress(OSError):  # the other side may have closed the channel
            if answer is not None:
                channel.write(answer.encode() + b"\n")
            if self._sudo.started:
                if self._stdin:
                    channel.write(self._stdin)
                channel.write_eof()
            elif self._sudo.refusal:
                channel.write_eof()
                channel.close()
        return data


def _result(session: Session, seconds: float) -> Result:
    return Result(session.stdout, session.stderr, session.status, session.signal, session.truncated, seconds=round(seconds, 4))


def _not_root(target: Target, sudo: Sudo) -> BecomeRefused:
    return BecomeRefused(
        f"The user that {target.name} is reached with may not run commands as root: {sudo.why()}; set the credential's become_password, or "
        "allow sudo there."
    )
