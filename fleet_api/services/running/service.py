"""Services of the swarm: made, shown, scaled, changed, taken back, removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import docker

from fleet_api.adapters.docker.types import Api
from fleet_api.errors import Conflict, FleetError, InvalidValue, NotFound
from fleet_api.nodes.service import NodeService
from fleet_api.services.fields import ENGINE_NAME
from fleet_api.services.mounts import MountRules
from fleet_api.services.running import spec as specs
from fleet_api.services.running import views
from fleet_api.services.running.kernel import has_ip_vs
from fleet_api.services.running.placement import refusal
from fleet_api.services.running.schemas import ServiceBody, ServiceChange, ServiceDetail, ServiceView
from fleet_api.services.sign_in import SignIn, headers_for
from fleet_api.services.swarm.errors import NoSwarm
from fleet_api.services.swarm.labels import NODE
from fleet_api.services.swarm.managers import Answer
from fleet_api.services.swarm.models import LOCAL
from fleet_api.services.swarm.service import SwarmService

Raw = dict[str, Any]
NAMES_SECONDS = 1.0
FORCE = "; ?force=true goes on all the same."


class Unplaceable(Conflict):
    """No node of the swarm can hold what is asked for."""


class RunningServices:
    """One instance a process, used on the event loop only."""

    def __init__(self, swarm: SwarmService, nodes: NodeService, mounts: MountRules, sign_in: SignIn | None = None) -> None:
        self.swarm = swarm
        self._managers = swarm.managers
        self._nodes = nodes
        self._mounts = mounts
        self._sign_in = sign_in

    async def every(self) -> Answer[list[ServiceView]]:
        """Return every service by name; none where there is no swarm."""
        try:
            found = await self._managers.read("services", _all)
        except NoSwarm:
            return Answer([])
        return Answer(sorted((views.view(each) for each in found.value), key=lambda each: each.name), found.age, found.why)

    async def get(self, name: str) -> Answer[ServiceDetail]:
        """Return a service by its id or name. Raises NotFound, NoSwarm."""

        def look(client: Api) -> ServiceDetail:  # what is shown, and no more of it, is remembered
            service = _inspect(client, name)
            return views.detail(service, list(client.tasks(filters={"service": service["ID"]})), views.names_of(client.nodes()))

        return await self._managers.read(f"service {name}", look)

    async def names_on(self, node_id: str) -> list[str]:
        """Return the services that have a task on a node of the fleet, as far as that is known at once."""
        if self._managers.swarm is None:
            return []

        def look(client: Api) -> list[tuple[str, str]]:
            members = views.names_of(client.nodes())
            services = {each["ID"]: each["Spec"]["Name"] for each in client.services()}
            tasks = client.tasks(filters={"desired-state": "running"})
            live = (task for task in tasks if task["Status"]["State"] == "running")
            return [(members.get(task.get("NodeID") or "", ""), services.get(task["ServiceID"], "")) for task in live]

        try:
            async with asyncio.timeout(NAMES_SECONDS):
                found = await self._managers.read("who runs what", look)
        except (FleetError, TimeoutError):
            return []
        return sorted({name for member, name in found.value if member == node_id and name})

    async def raw(self, name: str) -> tuple[Raw, list[Raw]]:
        """Return a service and its tasks as the engine has them now. Raises NotFound, NoSwarm, Unavailable."""

        def look(client: Api) -> tuple[Raw, list[Raw]]:
            service = _inspect(client, name)
            return service, list(client.tasks(filters={"service": service["ID"]}))

        return await self._managers.write(look)

    async def create(self, body: ServiceBody, *, force: bool = False) -> ServiceDetail:
        """Make a service. Raises InvalidValue, Unplaceable, Conflict for a name or port that is taken."""
        return (await self.get(await self.make(body, force=force))).value

    async def make(self, body: ServiceBody, *, force: bool = False) -> str:
        """Make a service and return its id. Raises as :meth:`create`."""
        spec = specs.made(body, self._mounts)
        await self.check_placeable(spec, force)
        headers = await headers_for(self._sign_in, body.image)
        return str((await self._managers.write(lambda client: _post(client, "/services/create", spec, headers)))["ID"])

    async def check_free(self, name: str) -> None:
        """Raise Conflict where there is a service of this name."""
        try:
            service, _ = await self.raw(name)
        except NotFound:
            return
        raise Conflict(f"name: service {name} already exists ({service['ID']}); update that one, or choose another name.")

    def check_new(self, body: ServiceBody) -> None:
        """Raise InvalidValue for what can never be, before anything is queued."""
        specs.wanted(specs.made(body, self._mounts))

    async def change(self, name: str, change: ServiceChange, *, force: bool = False) -> Raw:
        """Change a service; return it as it was before. Raises as :meth:`create`, NotFound, and Conflict where another changes it too."""
        service, _ = await self.raw(name)
        spec = specs.changed(service["Spec"], change)
        if spec != service["Spec"]:
            await self.check_placeable(spec, force, tasks_there=True)
        return await self._update(service, spec)

    async def scale(self, name: str, replicas: int, *, force: bool = False) -> ServiceDetail:
        """Set how many tasks a service has. Raises InvalidValue for a global one, and as :meth:`change`."""
        service, _ = await self.raw(name)
        spec = specs.scaled(service["Spec"], replicas)
        await self.check_placeable(spec, force, tasks_there=True)
        await self._update(service, spec)
        return (await self.get(service["ID"])).value

    async def rollback(self, name: str) -> Raw:
        """Take the last update back; return the service as it was before. Raises Conflict where there was none."""
        service, _ = await self.raw(name)
        if not service.get("PreviousSpec"):
            raise Conflict(f"Service {service['Spec']['Name']} has no earlier version to go back to.")
        return await self._update(service, service["Spec"], rollback="previous")

    async def remove(self, name: str) -> tuple[str, str]:
        """Remove a service; return its id and name. Raises NotFound."""
        service, _ = await self.raw(name)
        await self._managers.write(lambda client: client.remove_service(service["ID"]))
        return service["ID"], service["Spec"]["Name"]

    async def check_placeable(self, spec: Raw, force: bool, *, tasks_there: bool = False) -> None:
        """Raise Unplaceable where no node can hold it, unless forced. ``tasks_there``: its tasks may hold what it needs."""
        if force:
            specs.wanted(spec)
            return
        image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
        nodes = (await self.swarm.raw_nodes()).value
        why = refusal(specs.wanted(spec, await self._arch(image)), nodes, self._without_ip_vs(nodes))
        if why is not None:
            raise Unplaceable(why.rstrip(".") + FORCE)

    async def _arch(self, image: str) -> str | None:
        """Return what an image is for, where the manager has it."""
        try:
            engine = await self._managers.engine()
            found = await engine.call(lambda client: client.inspect_image(image), 2.0)
        except FleetError:
            return None
        return str(found["Architecture"]) if found.get("Architecture") else None

    def _without_ip_vs(self, nodes: list[Raw]) -> list[str]:
        """Return the members that are known to lack what ingress needs."""
        facts = {node.id: node.row.facts for node in self._nodes.all()}
        found = []
        for raw in nodes:
            name = (raw["Spec"].get("Labels") or {}).get(NODE)
            here = has_ip_vs() if name == LOCAL else facts.get(name or "", {}).get("ip_vs")
            if here is False:
                found.append(str(name))
        return sorted(found)

    async def _update(self, service: Raw, spec: Raw, **query: str) -> Raw:
        path = f"/services/{service['ID']}/update"
        version = service["Version"]["Index"]
        headers = await headers_for(self._sign_in, spec["TaskTemplate"]["ContainerSpec"]["Image"])
        await self._managers.write(lambda client: _post(client, path, spec, headers, version=version, **query))
        return service


def _all(client: Api) -> list[Raw]:
    """Return every service, counted by the engine where it can (20.10 and later), else here."""
    count: Callable[..., Any] = client.services
    try:
        return list(count(status=True))
    except docker.errors.InvalidVersion:
        found, tasks = list(count()), list(client.tasks(filters={"desired-state": "running"}))
        for service in found:
            own = [task for task in tasks if task["ServiceID"] == service["ID"]]
            running = sum(task["Status"]["State"] == "running" for task in own)
            service["ServiceStatus"] = {"RunningTasks": running, "DesiredTasks": len(own)}
        return found


def _inspect(client: Api, name: str) -> Raw:
    if not ENGINE_NAME.fullmatch(name):
        raise NotFound(f"There is no service {name[:60]!r}.")
    try:
        return dict(client.inspect_service(name))
    except docker.errors.NotFound:
        raise NotFound(f"There is no service {name!r}; see GET /api/swarm/services.") from None


def _post(client: Any, path: str, spec: Raw, headers: dict[str, str], **query: Any) -> Raw:
    """Send a specification as Docker's API has it: the library has no words for all of it."""
    answer = client._post_json(client._url(path), data=spec, params=query, headers=dict(headers))
    return dict(client._result(answer, True) or {})


def scale_wanted(body: int | None, query: int | None) -> int:
    """Return how many are wanted by the body or by the query. Raises InvalidValue where neither says, or both do differently."""
    if body is None and query is None:
        raise InvalidValue("replicas is required, in the body or as ?replicas=.")
    if body is not None and query is not None and body != query:
        raise InvalidValue(f"replicas: {query} in the query and {body} in the body contradict each other.")
    return body if body is not None else query or 0
