"""Logs of services, of all their tasks wherever they run: bounded in bytes, and in how many are followed at once."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fleet_api.adapters.docker.frames import lines
from fleet_api.errors import TooMany
from fleet_api.services.running.service import RunningServices

LOGS_SECONDS = 20.0
LARGEST = 8 * 1024 * 1024  # bytes of an answer; the oldest lines are left out
FOLLOWED = 50  # each is a thread, and a session on the manager


class ServiceLogReader:
    """One instance a process, used on the event loop only."""

    def __init__(self, services: RunningServices) -> None:
        self._services = services
        self._followed = 0

    async def last(self, name: str, tail: int) -> tuple[str, str]:
        """Return a service's id and the last lines of each of its tasks. Raises NotFound, NoSwarm, Unavailable."""
        service, _ = await self._services.raw(name)
        engine = await self._services.swarm.managers.engine()
        found = await engine.call(lambda client: newest(_logs(client, service["ID"], tail, False)), LOGS_SECONDS)
        return service["ID"], found.decode(errors="replace")

    async def follow(self, name: str, tail: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Return a stream of lines, the last ones first, then those that come. Raises as :meth:`last`, and TooMany."""
        if self._followed >= FOLLOWED:
            said = f"{FOLLOWED} logs of services are followed already, and no more at once; end one, or read them without follow."
            raise TooMany(said, {"Retry-After": "10"})
        service, _ = await self._services.raw(name)
        engine = await self._services.swarm.managers.engine()
        return self._counted(engine.stream(lambda client: _logs(client, service["ID"], tail, True)))

    @asynccontextmanager
    async def _counted(self, stream: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> AsyncIterator[AsyncIterator[bytes]]:
        self._followed += 1
        try:
            async with stream as pieces:
                yield pieces
        finally:
            self._followed -= 1


def newest(pieces: Iterable[bytes], largest: int = LARGEST) -> bytes:
    """Return the pieces as one, without the oldest where they are too many."""
    kept: deque[bytes] = deque()
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        while size > largest and len(kept) > 1:
            size -= len(kept.popleft())
    return b"".join(kept)[-largest:]


def _logs(client: Any, service_id: str, tail: int, follow: bool) -> Iterator[bytes]:
    query = {"stdout": 1, "stderr": 1, "tail": tail, "follow": int(follow), "timestamps": 0}
    answer = client._get(client._url("/services/{0}/logs", service_id), params=query, stream=True)
    client._raise_for_status(answer)
    tty = bool(client.inspect_service(service_id)["Spec"]["TaskTemplate"]["ContainerSpec"].get("TTY"))
    yield from lines(answer, tty)
