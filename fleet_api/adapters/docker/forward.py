"""A node's engine as a Unix socket here: each connection to it goes on over the kept SSH connection to the node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fleet_api.adapters.ssh.wire import Wire
from fleet_api.errors import FleetError

PIECE = 64 * 1024
AFTER_END_SECONDS = 2.0

Dial = Callable[[], AbstractAsyncContextManager[Wire]]


class Forward:
    """Listens at a path in a folder that only this user can enter. ``error`` is why the last connection did not come about."""

    def __init__(self, path: Path, dial: Dial) -> None:
        self.path = path
        self.error: FleetError | None = None
        self._dial = dial
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._carry, str(self.path))

    async def close(self) -> None:
        """Listen no more, and break off what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        try:
            async with self._dial() as wire:
                self.error = None
                out = asyncio.create_task(_out(reader, wire))
                back = asyncio.create_task(_back(wire, writer))
                try:
                    await asyncio.wait({out, back}, return_when=asyncio.FIRST_COMPLETED)
                    if not back.done():  # the caller has said all; the engine may still answer
                        await asyncio.wait({back}, timeout=AFTER_END_SECONDS)
                finally:
                    for each in (out, back):
                        each.cancel()
                    await asyncio.gather(out, back, return_exceptions=True)
        except FleetError as error:
            self.error = error
        except asyncio.CancelledError:
            pass
        finally:
            self._carrying.discard(task)
            with contextlib.suppress(Exception):
                writer.close()


async def _out(reader: asyncio.StreamReader, wire: Wire) -> None:
    with contextlib.suppress(OSError, ConnectionError):
        while data := await reader.read(PIECE):
            await wire.send(data)
        wire.end()


async def _back(wire: Wire, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ConnectionError):
        while data := await wire.receive(PIECE):
            writer.write(data)
            await writer.drain()
