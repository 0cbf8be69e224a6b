"""One engine behind a Unix socket: calls in a bounded number of threads, streams in threads of their own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from fleet_api.adapters.docker.client import CONNECT_SECONDS, Client
from fleet_api.adapters.docker.errors import EngineAway, refusal
from fleet_api.adapters.docker.types import CALL_SECONDS, Api
from fleet_api.errors import FleetError

T = TypeVar("T")

CALLS = 4
"""Calls at once to one engine: one that hangs takes no more threads than these from the others."""

WAITING = 64  # pieces of a stream that wait to be taken
GRACE = 0.5  # seconds after the socket's own bound


class SocketEngine:
    """Used on the event loop only. ``opened`` returns the socket's path, and ``why`` what went wrong on the way to it."""

    def __init__(
        self, name: str, executor: Executor, opened: Callable[[], Awaitable[str]], why: Callable[[], FleetError | None] = lambda: None
    ) -> None:
        self.name = name
        self.users = 0
        self.last_used = asyncio.get_running_loop().time()
        self._executor = executor
        self._opened = opened
        self._why = why
        self._room = asyncio.Semaphore(CALLS)
        self._making = threading.Lock()
        self._client: Client | None = None
        self._streams: set[Client] = set()

    async def call(self, fn: Callable[[Api], T], timeout: float = CALL_SECONDS) -> T:
        """See :class:`Engine`."""
        loop = asyncio.get_running_loop()
        self.users += 1
        try:
            async with asyncio.timeout(timeout + GRACE):
                path = await self._opened()
                await self._room.acquire()
                try:
                    doing = loop.run_in_executor(self._executor, self._do, path, fn, timeout)
                except BaseException:
                    self._room.release()
                    raise
                doing.add_done_callback(lambda _: self._room.release())
                doing.add_done_callback(lambda task: task.cancelled() or task.exception())
                return await asyncio.shield(doing)
        except TimeoutError:
            raise EngineAway(f"The Docker Engine of {self.name} did not answer within {timeout:g} s; try again.") from None
        except FleetError:
            raise
        except Exception as error:
            raise self._told(error) from error
        finally:
            self.users -= 1
            self.last_used = loop.time()

    @asynccontextmanager
    async def stream(self, fn: Callable[[Api], Iterable[T]]) -> AsyncIterator[AsyncIterator[T]]:
        """See :class:`Engine`."""
        self.users += 1
        flow: _Flow[T] = _Flow()
        try:
            path = await self._opened()
            thread = threading.Thread(target=self._pour, args=(path, fn, flow), name=f"stream of {self.name}", daemon=True)
            thread.start()
            try:
                yield self._taken(flow)
            finally:
                flow.stop()
        finally:
            self.users -= 1
            self.last_used = asyncio.get_running_loop().time()

    def close(self) -> None:
        """Break off what is open; the next call opens it anew."""
        client, self._client = self._client, None
        for each in (client, *self._streams):
            if each is not None:
                each.cut()

    def _do(self, path: str, fn: Callable[[Api], T], timeout: float) -> T:
        if not self._making.acquire(timeout=timeout):
            raise EngineAway(f"The Docker Engine of {self.name} did not answer within {timeout:g} s; try again.")
        try:
            client = self._client
            if client is None:
                client = self._client = Client(path, timeout)
        finally:
            self._making.release()
        client.patience(timeout)
        return fn(client)

    def _pour(self, path: str, fn: Callable[[Api], Iterable[T]], flow: _Flow[T]) -> None:
        """In a thread: put each piece into the flow, then its end."""
        error: Exception | None = None
        try:
            client = Client(path, CONNECT_SECONDS)
            client.patience(None)
            self._streams.add(client)
            flow.cut = client.cut
            try:
                if not flow.stopped:
                    for piece in fn(client):
                        if not flow.put(piece):
                            break
            finally:
                self._streams.discard(client)
                client.cut()
                client.close()
        except Exception as broke:
            error = broke
        flow.end(error)

    async def _taken(self, flow: _Flow[T]) -> AsyncIterator[T]:
        while True:
            piece = await flow.queue.get()
            if isinstance(piece, _End):
                if piece.error is not None:
                    raise self._told(piece.error) from piece.error
                return
            yield piece

    def _told(self, error: Exception) -> FleetError:
        told = refusal(error, self.name)
        return (self._why() or told) if isinstance(told, EngineAway) else told


class _End:
    def __init__(self, error: Exception | None) -> None:
        self.error = error


class _Flow(Generic[T]):
    """Pieces on their way from a thread to the event loop."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[T | _End] = asyncio.Queue(WAITING)
        self.stopped = False
        self.cut: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._putting: Future[Any] | None = None

    def put(self, piece: T | _End) -> bool:
        """In the thread: wait for room, and say whether more is wanted."""
        if self.stopped or self._loop.is_closed():
            return False
        try:
            self._putting = asyncio.run_coroutine_threadsafe(self.queue.put(piece), self._loop)
            if self.stopped:
                self._putting.cancel()
            self._putting.result()
        except Exception:
            return False
        return not self.stopped

    def end(self, error: Exception | None) -> None:
        """In the thread: nothing comes after this."""
        self.put(_End(error))

    def stop(self) -> None:
        """On the loop: nothing more is wanted."""
        self.stopped = True
        if self._putting is not None:
            self._putting.cancel()
        with contextlib.suppress(OSError):
            self.cut()
