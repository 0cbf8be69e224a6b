"""One command on an open connection: its output with a bound, its end, and ending it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

import asyncssh

CAP = 1024 * 1024  # bytes of each stream that are kept
TERM_SECONDS = 1.0  # what a command is given to end by itself
KILL_SECONDS = 2.0


class Session(asyncssh.SSHClientSession[bytes]):
    """Collects what a command prints. ``ended`` is done when its channel has closed, with the error that closed it if there was one.

    ``talk`` sees each piece as it comes, with its channel and whether it is from stderr; it returns what shall be kept of it.
    """

    def __init__(self) -> None:
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None
        self.talk: Callable[[asyncssh.SSHClientChannel[bytes], bytes, bool], bytes] | None = None
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.exit_status: int | None = None
        self.signal: str | None = None
        self._streams = (bytearray(), bytearray())
        self._over = [False, False]

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """asyncssh: the channel is open."""
        self.channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """asyncssh: a piece of output."""
        stderr = datatype == asyncssh.EXTENDED_DATA_STDERR
        if self.talk is not None and self.channel is not None:
            data = self.talk(self.channel, data, stderr)
        stream = self._streams[stderr]
        room = CAP - len(stream)
        if len(data) > room:
            self._over[stderr] = True
        stream += data[:room]

    def exit_status_received(self, status: int) -> None:
        """asyncssh: the command ended."""
        self.exit_status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """asyncssh: a signal ended the command."""
        self.signal = f"SIG{signal}"

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncssh: the channel closed."""
        if not self.ended.done():
            self.ended.set_result(exc)

    @property
    def stdout(self) -> str:
        """What it printed."""
        return self._streams[0].decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What it printed as errors."""
        return self._streams[1].decode(errors="replace")

    @property
    def truncated(self) -> tuple[str, ...]:
        """The streams of which only the beginning was kept."""
        return tuple(name for name, over in zip(("stdout", "stderr"), self._over, strict=True) if over)

    @property
    def finished(self) -> bool:
        """Whether it is known how the command ended."""
        return self.exit_status is not None or self.signal is not None

    @property
    def status(self) -> int:
        """The exit status; 128 + n for signal n, 255 for a signal without a number here."""
        if self.signal is not None:
            return 128 + getattr(signal.Signals, self.signal, 127)
        return self.exit_status if self.exit_status is not None else 255


async def end(channel: asyncssh.SSHClientChannel[bytes], session: Session) -> bool:
    """End a command's whole process group; say whether it has ended. SSH servers send the signal to the group."""
    for name, seconds in (("TERM", TERM_SECONDS), ("KILL", KILL_SECONDS)):
        if session.ended.done():
            break
        with contextlib.suppress(OSError, asyncssh.Error):
            channel.send_signal(name)
        await asyncio.wait({session.ended}, timeout=seconds)
    ended = session.ended.done()
    channel.close()
    return ended
