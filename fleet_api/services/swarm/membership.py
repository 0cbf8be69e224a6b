"""Bringing nodes into the swarm, and out of it. Every step is safe to repeat.

A node of this swarm is left where it is, one of another swarm is refused unless forced. A machine that was installed anew comes as a new
member; its old self, which is down, is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from fleet_api.adapters.docker.errors import EngineAway
from fleet_api.adapters.docker.types import Api, Engine
from fleet_api.errors import Conflict, FleetError, NotFound, Timeout, Unavailable
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.service import NodeService
from fleet_api.operations.work import OperationFailed, Work
from fleet_api.services.swarm.errors import AgentInside, NoSwarm, OtherSwarm
from fleet_api.services.swarm.labels import INFERENCE, NODE, from_facts, merged
from fleet_api.services.swarm.models import LOCAL
from fleet_api.services.swarm.schemas import SwarmRole
from fleet_api.services.swarm.service import Raw, SwarmService

PORT = 2377
LISTEN = f"0.0.0.0:{PORT}"
JOIN_SECONDS = 30.0
READY_SECONDS = 30.0
LEAVE_SECONDS = 20.0
DRAIN_SECONDS = 60.0
LOOK_SECONDS = 0.3

Tell = Callable[[str], object]


class Membership:
    """One instance a process, used on the event loop only."""

    def __init__(self, swarm: SwarmService, nodes: NodeService) -> None:
        self._swarm = swarm
        self._managers = swarm.managers
        self._nodes = nodes
        self._forming = asyncio.Lock()

    async def exists(self) -> bool:
        """Say whether there is a swarm."""
        return await self._managers.exists()

    async def ensure(self, node_id: str, tell: Tell, *, role: SwarmRole = "worker", force: bool = False, form_on: str | None = None) -> str:
        """See to it that a node is in the swarm, with its labels; return Docker's id of it.

        Where there is no swarm one is formed: on ``form_on``, else on this machine where it has an engine, else on the node itself.
        Raises OtherSwarm, Conflict, Unavailable, and what reaching the node raises.
        """
        node = self._nodes.get(node_id)
        if not await self._managers.exists():
            async with self._forming:
                if not await self._managers.exists():
                    await self.form(form_on or await self._where(node), tell, force=force)
        member = await self._member(node, tell, role, force)
        await self.label(node_id, member)
        return member

    async def after_onboarding(self, work: Work, node_id: str) -> None:
        """Bring a freshly onboarded node into the swarm, where there is one. Raises OperationFailed; the node is managed all the same."""
        if not await self._managers.exists():
            return
        work.step("swarm", 97)
        try:
            await self.ensure(node_id, lambda text: work.tell("step", text, node_id))
        except FleetError as error:
            raise OperationFailed(f"It is a node now, but is not in the swarm: {error.detail}") from error

    async def before_retiring(self, work: Work, node_id: str) -> None:
        """Take a node out of the swarm before it is given back. Raises OperationFailed where the swarm would be without a manager."""
        if self._managers.swarm is None:
            return
        try:
            await self.leave(node_id, lambda text: work.tell("step", text, node_id), with_agent=True)
        except FleetError as error:
            raise work.failed(error) from error

    async def form(self, where: str, tell: Tell, *, force: bool = False) -> None:
        """Make a swarm with one manager: a node, or this machine. A swarm that the node manages already is taken over as it is."""
        engine = await self._engine(where)
        state = await _state(engine)
        if state["LocalNodeState"] != "inactive" and not state.get("ControlAvailable"):
            if not force:
                raise OtherSwarm(f"Node {where} is a member of a swarm that it does not manage; ?force=true makes it leave that swarm.")
            await self._leave(engine, tell, where)
            state = await _state(engine)
        if not state.get("ControlAvailable"):
            address = self._address(where)
            tell(f"Forming a swarm on {where}")
            await engine.call(lambda client: client.init_swarm(advertise_addr=address, listen_addr=LISTEN), JOIN_SECONDS)
            state = await _state(engine)
        await self._managers.remember(str(state["Cluster"]["ID"]), [where])
        own = str(state["NodeID"])
        facts = {} if where == LOCAL else self._nodes.get(where).row.facts
        cluster = None if where == LOCAL else self._nodes.get(where).row.cluster
        await self._set_labels(own, where, cluster, facts)

    async def label(self, node_id: str, member: str | None = None) -> None:
        """Write what is known of a node into its labels. Raises NotFound for one that is not in the swarm."""
        row = self._nodes.get(node_id).row
        if member is None:
            member = str((await self._swarm.node(node_id))["ID"])
        await self._set_labels(member, node_id, row.cluster, row.facts)

    async def drain(self, node_id: str, tell: Tell) -> None:
        """Move what runs on a node to others, and return when nothing runs there any more, or after a while."""
        member = await self._swarm.node(node_id)
        if member["Status"]["State"] != "ready":
            return
        tell(f"Draining {node_id}")
        await self._swarm.change(member["ID"], lambda spec: spec.update(Availability="drain"))
        deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            tasks = (
                await self._managers.read(f"tasks of {member['ID']}", lambda client: client.tasks(filters={"node": member["ID"]}))
            ).value
            if not any(task["Status"]["State"] in ("running", "starting", "preparing", "ready") for task in tasks):
                return
            await asyncio.sleep(LOOK_SECONDS)
        tell(f"Some tasks of {node_id} have not ended within {DRAIN_SECONDS:g} s; going on.")

    async def undrain(self, node_id: str) -> None:
        """Let a node take tasks again."""
        await self._swarm.change((await self._swarm.node(node_id))["ID"], lambda spec: spec.update(Availability="active"))

    async def leave(self, node_id: str, tell: Tell, *, with_agent: bool = False) -> None:
        """Take a node out of the swarm: drained, then gone from the list. With the last manager the swarm ends.

        Raises Conflict for the last manager while there are other members, and AgentInside unless the agent is to end ``with_agent``.
        """
        try:
            nodes = (await self._swarm.raw_nodes()).value
            member = await self._swarm.node(node_id)
        except (NoSwarm, NotFound):
            return
        if not with_agent:
            check_agent(node_id, member)
        heads = [each for each in nodes if each["Spec"]["Role"] == "manager"]
        last = len(nodes) == 1
        if [each["ID"] for each in heads] == [member["ID"]] and not last:
            raise Conflict(f"Node {node_id} is the only manager of a swarm with {len(nodes)} members; make another one a manager first.")
        if last:
            await (await self._engine(node_id)).call(lambda client: client.leave_swarm(force=True), LEAVE_SECONDS)
            await self._managers.forget()
            tell(f"{node_id} has left, and the swarm has ended")
            return
        await self.drain(node_id, tell)
        if member["Spec"]["Role"] == "manager":
            await self._swarm.set_role(member["ID"], "worker")
            await self._until(member["ID"], lambda raw: not raw.get("ManagerStatus"))
        try:
            await self._leave(await self._engine(node_id), tell, node_id)
        except (Unavailable, Timeout) as error:
            tell(f"{node_id} does not answer, so it is removed from the list alone: {error.detail}")
        await self._remove(member["ID"])
        tell(f"{node_id} has left the swarm")

    # -- one node

    async def _member(self, node: LiveNode, tell: Tell, role: SwarmRole, force: bool) -> str:
        engine = await self._engine(node.id)
        state = await _state(engine)
        known = (await self._swarm.raw_nodes()).value
        own = next((each for each in known if each["ID"] == state["NodeID"]), None)
        if state["LocalNodeState"] in ("active", "pending") and own is not None:
            if role == "manager" and own["Spec"]["Role"] != "manager":
                await self._swarm.set_role(own["ID"], "manager")
            return str(own["ID"])
        if state["LocalNodeState"] == "locked":
            raise Conflict(f"The swarm on {node.id} is locked; unlock it there with 'docker swarm unlock', and try again.")
        if state["LocalNodeState"] != "inactive":
            if own is None and not force:
                raise OtherSwarm(f"Node {node.id} is in another swarm already; with ?force=true it leaves that one and joins this.")
            await self._leave(engine, tell, node.id)
        await self._join(engine, node, role, tell)
        member = str((await _state(engine))["NodeID"])
        await self._until(member, lambda raw: raw["Status"]["State"] == "ready")
        await self._remove_twins(node, member, tell)
        return member

    async def _join(self, engine: Engine, node: LiveNode, role: SwarmRole, tell: Tell) -> None:
        token = await self._swarm.token(role)
        addresses = await self._manager_addresses()
        tell(f"{node.id} joins the swarm as a {role}")

        def join(client: Api) -> None:
            client.join_swarm(remote_addrs=addresses, join_token=token, listen_addr=LISTEN, advertise_addr=node.row.ip or None)

        try:
            await engine.call(join, JOIN_SECONDS)
        except FleetError as error:
            detail = error.detail.replace(token, "<token>")
            if isinstance(error, EngineAway) or "timeout" in detail.lower() or "deadline" in detail.lower() or "refused" in detail.lower():
                raise Unavailable(
                    f"Node {node.id} did not reach the swarm's managers at {', '.join(addresses)} in time; see that the "
                    "ports 2377, 7946 and 4789 are open between the machines."
                ) from None
            raise type(error)(detail) from None

    async def _remove_twins(self, node: LiveNode, member: str, tell: Tell) -> None:
        """Remove earlier selves of a node: same name in the fleet, or same host name and address, and down."""
        for each in (await self._swarm.raw_nodes()).value:
            labels, said = each["Spec"].get("Labels") or {}, each["Status"]
            same = labels.get(NODE) == node.id or (
                not labels.get(NODE)
                and (each.get("Description") or {}).get("Hostname") == node.row.hostname
                and said.get("Addr") == node.row.ip
            )
            if same and each["ID"] != member and said["State"] in ("down", "disconnected", "unknown"):
                tell(f"Removing what {node.id} was before it was installed anew")
                if each["Spec"]["Role"] == "manager":
                    await self._swarm.set_role(each["ID"], "worker")
                await self._managers.write(lambda client, old=each["ID"]: client.remove_node(old, force=True))  # type: ignore[misc]

    async def _remove(self, member: str) -> None:
        """Remove a member from the list; by force, as the managers take a while to see that one has left."""
        with contextlib.suppress(NotFound):
            await self._managers.write(lambda client: client.remove_node(member, force=True))

    async def _until(self, member: str, reached: Callable[[Raw], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            try:
                if reached(await self._managers.write(lambda client: client.inspect_node(member))):
                    return
            except NotFound:
                pass
            await asyncio.sleep(LOOK_SECONDS)
        raise Unavailable(
            f"The swarm's managers do not see node {member} as it should be within {READY_SECONDS:g} s; see GET /api/swarm/nodes."
        )

    async def _leave(self, engine: Engine, tell: Tell, name: str) -> None:
        tell(f"{name} leaves the swarm that it is in")
        try:
            await engine.call(lambda client: client.leave_swarm(force=True), LEAVE_SECONDS)
        except Unavailable as error:
            if (await _state(engine))["LocalNodeState"] != "inactive":
                raise Unavailable(f"Node {name} could not leave its swarm: {error.detail}") from error

    async def _set_labels(self, member: str, name: str, cluster: str | None, facts: dict[str, Any]) -> None:
        ours = from_facts(name, cluster, facts)

        def change(spec: Raw) -> None:
            spec["Labels"] = merged(spec.get("Labels") or {}, ours)

        await self._swarm.change(member, change)

    async def _manager_addresses(self) -> list[str]:
        nodes = (await self._swarm.raw_nodes()).value
        there = [each.get("ManagerStatus") or {} for each in nodes]
        found = [str(each["Addr"]) for each in there if each.get("Reachability") == "reachable" and each.get("Addr")]
        if not found:
            raise Unavailable("No manager of the swarm is reachable for a node to join; see GET /api/swarm/nodes.")
        return found

    async def _engine(self, where: str) -> Engine:
        return await self._managers.engines.of(None if where == LOCAL else where)

    async def _where(self, node: LiveNode) -> str:
        """Return where a first swarm is formed: where the setting says, if an engine answers there; else the node itself."""
        setting = self._managers.setting
        if setting != LOCAL:
            return setting
        try:
            await _state(await self._engine(LOCAL))
        except (Unavailable, Timeout):
            return node.id
        return LOCAL

    def _address(self, where: str) -> str:
        """Return the address at which others reach the one that forms a swarm."""
        if where != LOCAL:
            row = self._nodes.get(where).row
            if not row.ip:
                raise Conflict(f"Node {where!r} has no address; set it with PATCH /api/nodes/{where}.")
            return row.ip
        others = [node.row.ip for node in self._nodes.all() if node.row.ip and not node.row.ip.startswith("127.")]
        return _source_address(others[0] if others else "192.0.2.1")


def check_agent(node_id: str, member: Raw) -> None:
    """Raise AgentInside where the node's own agent would end with its membership; one of a node that is gone has ended."""
    if member["Status"]["State"] == "ready" and (member["Spec"].get("Labels") or {}).get(INFERENCE):
        raise AgentInside(node_id)


async def _state(engine: Engine) -> dict[str, Any]:
    """Return what an engine says of its swarm."""
    info = await engine.call(lambda client: client.info())
    found: dict[str, Any] = info.get("Swarm") or {}
    return {"LocalNodeState": "inactive", "NodeID": "", "ControlAvailable": False, "Cluster": {}, **found}


def _source_address(towards: str) -> str:
    """Return this machine's address on the way to another; nothing is sent."""
    with socket.socket(socket.AF_INET6 if ":" in towards else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
            return str(probe.getsockname()[0])
        except OSError:
            raise Conflict("This machine has no address that nodes could reach; form the swarm on a node instead.") from None
