"""Containers of the manager's engine, and of any node's."""

from __future__ import annotations

from typing import Any, Literal

from fleet_api.adapters.docker.types import Engine, Engines
from fleet_api.errors import Conflict, FleetError, NotFound
from fleet_api.services.containers.schemas import ContainerDone, ContainerList, ContainerView
from fleet_api.services.fields import ENGINE_NAME
from fleet_api.services.swarm.managers import Managers

Action = Literal["restart", "stop", "start"]
STOP_SECONDS = 10
ACTION_SECONDS = 30.0
LOGS_SECONDS = 15.0
LARGEST = 8 * 1024 * 1024  # bytes of logs in an answer; the oldest are left out


class Containers:
    """One instance a process, used on the event loop only."""

    def __init__(self, engines: Engines, managers: Managers) -> None:
        self._engines = engines
        self._managers = managers

    async def list(self, everything: bool = True) -> ContainerList:
        """Return the containers of the manager's engine. Raises Unavailable where none answers."""
        engine = await self.manager()
        found = await engine.call(lambda client: list(client.containers(all=everything)))
        views = sorted(map(ContainerView.of, found), key=lambda each: each.name)
        return ContainerList(containers=views, total=len(views), server=engine.name)

    async def act(self, container: str, action: Action) -> ContainerDone:
        """Start, stop or restart a container of the manager's engine. Raises NotFound, Conflict, Unavailable."""
        _named(container)
        engine = await self.manager()

        def act(client: Any) -> dict[str, Any]:
            if action == "start":
                client.start(container)
            else:
                (client.stop if action == "stop" else client.restart)(container, timeout=STOP_SECONDS)
            return dict(client.inspect_container(container))

        now = await engine.call(act, ACTION_SECONDS)
        return ContainerDone(status=now["State"]["Status"], container_id=now["Id"][:12], name=now["Name"].lstrip("/"), action=action)

    async def logs(self, node_id: str | None, container: str, tail: int) -> tuple[str, str]:
        """Return a container's id and its last lines; None is the manager's engine. Raises NotFound, Unavailable."""
        _named(container)
        engine = await self.manager() if node_id is None else await self._engines.of(node_id)

        def read(client: Any) -> tuple[str, bytes]:
            found = client.inspect_container(container)
            return found["Id"][:12], client.logs(container, stdout=True, stderr=True, tail=tail)

        found, text = await engine.call(read, LOGS_SECONDS)
        return found, text[-LARGEST:].decode(errors="replace")

    async def remove(self, node_id: str, container: str) -> str:
        """Remove a container of a node, running or not; return its name. Raises NotFound, Conflict for a task of a service."""
        _named(container)
        engine = await self._engines.of(node_id)

        def remove(client: Any) -> str:
            found = client.inspect_container(container)
            service = (found["Config"].get("Labels") or {}).get("com.docker.swarm.service.name")
            if service:
                raise Conflict(f"{container} is a task of service {service}; scale or remove that: DELETE /api/swarm/services/{service}.")
            client.remove_container(found["Id"], force=True)
            return str(found["Name"].lstrip("/"))

        return await engine.call(remove, ACTION_SECONDS)

    async def manager(self) -> Engine:
        """Return this machine's engine where it answers, else that of the swarm's manager."""
        own = await self._engines.of(None)
        try:
            await own.call(lambda client: client.ping(), 3.0)
        except FleetError as error:
            try:
                return await self._managers.engine()
            except FleetError:
                raise error from None
        return own


def _named(container: str) -> None:
    if not ENGINE_NAME.fullmatch(container):
        raise NotFound(f"There is no container {container[:60]!r}.")
