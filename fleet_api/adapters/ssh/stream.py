"""A command's output as lines, no faster than they are taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import asyncssh

from fleet_api.adapters.ssh.session import Session

WAITING = 2_000  # lines that wait to be taken before the sender is made to wait
LONGEST = 256 * 1024  # bytes of one line; a longer one comes in parts


class LineSession(Session):
    """Yields the lines of stdout; what comes on stderr is kept as in :class:`Session`."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._news = asyncio.Event()
        self._paused = False

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """asyncssh: a piece of output."""
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            super().data_received(data, datatype)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(lines)
        if len(self._rest) > LONGEST:
            self._lines.append(self._rest)
            self._rest = b""
        if len(self._lines) > WAITING and not self._paused and self.channel is not None:
            self._paused = True
            self.channel.pause_reading()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncssh: the channel closed."""
        super().connection_lost(exc)
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield lines until the command has ended."""
        while True:
            while self._lines:
                yield self._lines.popleft()
                if self._paused and len(self._lines) < WAITING // 2 and self.channel is not None:
                    self._paused = False
                    self.channel.resume_reading()
            if self.ended.done():
                if self._rest:
                    yield self._rest
                return
            self._news.clear()
            await self._news.wait()
