"""Logs of services, of all their tasks wherever they run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from fleet_api.adapters.docker.frames import lines
from fleet_api.services.running.service import RunningServices

LOGS_SECONDS = 20.0


class ServiceLogReader:
    """One instance a process, used on the event loop only."""

    def __init__(self, services: RunningServices) -> None:
        self._services = services

    async def last(self, name: str, tail: int) -> tuple[str, str]:
        """Return a service's id and the last lines of each of its tasks. Raises NotFound, NoSwarm, Unavailable."""
        service, _ = await self._services.raw(name)
        engine = await self._services.swarm.managers.engine()
        found = await engine.call(lambda client: b"".join(_logs(client, service["ID"], tail, False)), LOGS_SECONDS)
        return service["ID"], found.decode(errors="replace")

    async def follow(self, name: str, tail: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Return a stream of lines, the last ones first, then those that come. Raises as :meth:`last`."""
        service, _ = await self._services.raw(name)
        engine = await self._services.swarm.managers.engine()
        return engine.stream(lambda client: _logs(client, service["ID"], tail, True))


def _logs(client: Any, service_id: str, tail: int, follow: bool) -> Iterator[bytes]:
    query = {"stdout": 1, "stderr": 1, "tail": tail, "follow": int(follow), "timestamps": 0}
    answer = client._get(client._url("/services/{0}/logs", service_id), params=query, stream=True)
    client._raise_for_status(answer)
    tty = bool(client.inspect_service(service_id)["Spec"]["TaskTemplate"]["ContainerSpec"].get("TTY"))
    yield from lines(answer, tty)
