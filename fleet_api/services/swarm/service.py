"""The swarm as the API has it: status, members, labels, roles, tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docker

from fleet_api.adapters.docker.types import Api
from fleet_api.errors import Conflict, NotFound
from fleet_api.services.swarm.errors import NoSwarm
from fleet_api.services.swarm.labels import NODE
from fleet_api.services.swarm.managers import Answer, Managers
from fleet_api.services.swarm.schemas import SwarmNode, SwarmRole, SwarmStatus

Raw = dict[str, Any]


class SwarmService:
    """One instance a process, used on the event loop only."""

    def __init__(self, managers: Managers) -> None:
        self.managers = managers

    async def status(self) -> SwarmStatus:
        """Return the swarm in figures; zeros where there is none."""
        try:
            found = await self.raw_nodes()
        except NoSwarm as error:
            return SwarmStatus(
                is_manager=False, swarm_id=None, manager_addr=None, nodes_count=0, managers_count=0, workers_count=0, age_seconds=0,
                reason=error.detail,
            )  # fmt: skip
        heads = [node for node in found.value if node["Spec"]["Role"] == "manager"]
        leader = next((node for node in heads if (node.get("ManagerStatus") or {}).get("Leader")), heads[0] if heads else {})
        if not found.why:
            await self._note_swarm()
        swarm = self.managers.swarm
        return SwarmStatus(
            is_manager=not found.why, swarm_id=swarm.id if swarm else None, manager_addr=(leader.get("ManagerStatus") or {}).get("Addr"),
            nodes_count=len(found.value), managers_count=len(heads), workers_count=len(found.value) - len(heads),
            age_seconds=round(found.age, 3), reason=found.why or None,
        )  # fmt: skip

    async def _note_swarm(self) -> None:
        """Remember which swarm it is: somebody may have ended the one before, and formed another."""
        now = await self.managers.read("swarm", lambda client: str(client.inspect_swarm()["ID"]))
        if self.managers.swarm is not None and now.value != self.managers.swarm.id and not now.why:
            await self.managers.remember(now.value, self.managers.swarm.managers)

    async def raw_nodes(self) -> Answer[list[Raw]]:
        """Return the members as the engine tells of them, and note who manages. Raises NoSwarm, Unavailable."""
        found = await self.managers.read("nodes", lambda client: list(client.nodes()))
        if not found.why:
            await self._note_managers(found.value)
        return found

    async def nodes(self) -> Answer[list[SwarmNode]]:
        """Return the members by host name; none where there is no swarm."""
        try:
            found = await self.raw_nodes()
        except NoSwarm:
            return Answer([])
        return Answer(sorted(map(SwarmNode.of, found.value), key=lambda node: (node.hostname, node.id)), found.age, found.why)

    async def node(self, name: str) -> Raw:
        """Return one member by Docker's id, the fleet's, or its host name. Raises NotFound, NoSwarm."""
        return named(name, (await self.raw_nodes()).value)

    async def token(self, role: SwarmRole) -> str:
        """Return what machines join with."""
        swarm = await self.managers.write(lambda client: client.inspect_swarm())
        return str(swarm["JoinTokens"]["Manager" if role == "manager" else "Worker"])

    async def rotate_token(self, role: SwarmRole) -> str:
        """Make the token void and return a new one."""

        def rotate(client: Api) -> None:
            swarm = client.inspect_swarm()
            client.update_swarm(
                version=swarm["Version"]["Index"], swarm_spec=swarm["Spec"], rotate_worker_token=role == "worker",
                rotate_manager_token=role == "manager",
            )  # fmt: skip

        await self.managers.write(rotate)
        return await self.token(role)

    async def set_labels(self, name: str, labels: Mapping[str, str]) -> SwarmNode:
        """Set labels of a member; an empty value takes one away."""
        if NODE in labels:
            raise Conflict(f"labels: {NODE} says which node of the fleet this is, and is not to be changed.")

        def change(spec: Raw) -> None:
            merged = {**(spec.get("Labels") or {}), **labels}
            spec["Labels"] = {label: value for label, value in merged.items() if value}

        return await self._change(name, change)

    async def set_availability(self, name: str, availability: str) -> SwarmNode:
        """Let a member take tasks, or not."""
        return await self._change(name, lambda spec: spec.update(Availability=availability))

    async def set_role(self, name: str, role: SwarmRole) -> SwarmNode:
        """Make a member a manager or a worker. Raises Conflict for the last manager."""
        nodes = (await self.raw_nodes()).value
        found = named(name, nodes)
        heads = [node for node in nodes if node["Spec"]["Role"] == "manager"]
        if role == "worker" and [node["ID"] for node in heads] == [found["ID"]]:
            raise Conflict(f"{name} is the swarm's only manager; make another member a manager first.")
        changed = await self._change(found["ID"], lambda spec: spec.update(Role=role))
        await self.raw_nodes()
        return changed

    async def change(self, node_id: str, change: Callable[[Raw], object]) -> None:
        """Change the specification of a member, by Docker's id; tried again where somebody else changed it meanwhile."""

        def write(client: Api) -> None:
            for last in (False, False, True):
                node = client.inspect_node(node_id)
                spec = dict(node["Spec"])
                before = {**spec, "Labels": dict(spec.get("Labels") or {})}
                change(spec)
                if spec == before:
                    return
                try:
                    client.update_node(node_id, node["Version"]["Index"], spec)
                except docker.errors.APIError as error:
                    if last or "out of sequence" not in str(error.explanation):
                        raise
                else:
                    return

        await self.managers.write(write)

    async def _change(self, name: str, change: Callable[[Raw], object]) -> SwarmNode:
        found = await self.node(name)
        await self.change(found["ID"], change)
        return SwarmNode.of(await self.managers.write(lambda client: client.inspect_node(found["ID"])))

    async def _note_managers(self, nodes: list[Raw]) -> None:
        """Remember every manager, also one that is away now, as the engine behind this answer may be gone one day."""
        swarm = self.managers.swarm
        if swarm is None:
            return
        heads = {
            str(node["Spec"]["Labels"][NODE])
            for node in nodes
            if node["Spec"]["Role"] == "manager" and (node["Spec"].get("Labels") or {}).get(NODE)
        }
        if heads:
            await self.managers.remember(swarm.id, [name for name in swarm.managers if name in heads] + sorted(heads - set(swarm.managers)))


def named(name: str, nodes: list[Raw]) -> Raw:
    """Return a member by Docker's id, the fleet's id, or its host name. Raises NotFound, and Conflict for a name of several."""
    ours = [node for node in nodes if node["ID"] == name or (node["Spec"].get("Labels") or {}).get(NODE) == name]
    found = ours or [node for node in nodes if (node.get("Description") or {}).get("Hostname") == name]
    if not found:
        known = ", ".join(sorted((node.get("Description") or {}).get("Hostname") or node["ID"] for node in nodes)[:20]) or "none"
        raise NotFound(f"There is no node {name!r} in the swarm; its nodes are: {known}.")
    if len(found) > 1:
        raise Conflict(f"{len(found)} nodes of the swarm are called {name!r}; name one by its id: {', '.join(n['ID'] for n in found)}.")
    return found[0]


def by_node(members: Sequence[Raw]) -> dict[str, Raw]:
    """Return the members by the fleet's id; of twins, as after an installation anew, the one that is there."""
    found: dict[str, Raw] = {}
    for each in sorted(members, key=lambda one: bool(one["Status"]["State"] == "ready")):
        name = (each["Spec"].get("Labels") or {}).get(NODE)
        if name:
            found[name] = each
    return found
