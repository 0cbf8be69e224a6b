"""A container on one node: the operation ``container_deploy``. What does not run is taken away again."""

from __future__ import annotations

import asyncio
from typing import Any

from fleet_api.adapters.docker.types import Engine, Engines
from fleet_api.errors import Conflict, FleetError, NotFound
from fleet_api.nodes.service import NodeService
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import Work
from fleet_api.services.containers.schemas import DeployBody
from fleet_api.services.environment import Environments
from fleet_api.services.mounts import MountRules
from fleet_api.services.running import l4t
from fleet_api.services.sign_in import SignIn
from fleet_api.services.undoing import made_or_undone

CONTAINER_DEPLOY = "container_deploy"
WATCHED_SECONDS = 1.5
"""How long a container must run to be told as running."""

START_SECONDS = 60.0
RESTART = {"Name": "unless-stopped"}
"""Set once it runs: before, it would be started again and again, and look as if it ran."""


class ContainerFailed(Conflict):
    """The container ended as soon as it was started."""


class ContainerDeploying:
    """The kind ``container_deploy``, and the door that asks for it."""

    name = CONTAINER_DEPLOY
    waits_only = False

    def __init__(
        self, engines: Engines, nodes: NodeService, operations: OperationService, mounts: MountRules, sign_in: SignIn | None = None
    ) -> None:
        self._engines = engines
        self._nodes = nodes
        self._operations = operations
        self._mounts = mounts
        self._sign_in = sign_in
        self._environments = Environments()

    async def start(self, body: DeployBody, caller: str) -> Operation:
        """Queue it. Raises NotFound for an unknown node, InvalidValue for mounts that are not allowed, Conflict for one without SSH."""
        for text in body.mounts:
            self._mounts.parsed(text)
        self._nodes.get(body.node_id)
        await self._engines.of(body.node_id)
        request = {**body.model_dump(), "env": self._environments.kept(body.env)}
        row = await self._operations.submit(CONTAINER_DEPLOY, request, caller=caller, node_ids=[body.node_id])
        self._environments.keep_only({each.id for each in self._operations.unfinished()})
        self._environments.put(row.id, body.env)  # nothing of it runs before this: submitting does not yield after its write
        return row

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        return f"Run {request['name']} on {request['node_id']}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`."""
        return [request["node_id"]]

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        body = DeployBody.model_validate(work.request)
        try:
            body = body.model_copy(update={"env": self._environments.take(work.id, body.env)})
            engine = await self._engines.of(body.node_id)
            self._check_l4t(body)
            await self._pull(engine, body, work)
            work.step("start", 80)
            container = await self._started(engine, body)
        except FleetError as error:
            raise work.failed(error) from error
        work.result.update({"node_id": body.node_id, "container_id": container[:12], "name": body.name, "status": "running"})

    def _check_l4t(self, body: DeployBody) -> None:
        needs = l4t.of_image(body.image)
        host = l4t.parsed(str(self._nodes.get(body.node_id).row.facts.get("l4t_version") or ""))
        if needs is not None and host is not None and not l4t.fits(host, needs):
            raise Conflict(f"image: {body.node_id} has L4T {l4t.shown(host)}, which does not run images for {l4t.shown(needs)}.")

    async def _pull(self, engine: Engine, body: DeployBody, work: Work) -> None:
        """Fetch the image where the node has none of this name."""
        try:
            await engine.call(lambda client: client.inspect_image(body.image))
        except NotFound:
            pass
        else:
            return
        work.step("pull", 10)
        work.tell("step", f"{body.node_id} fetches {body.image}", body.node_id)
        name, _, tag = body.image.partition("@")
        if not tag:
            head, colon, last = name.rpartition(":")
            name, tag = (head, last) if colon and "/" not in last else (name, "latest")
        auth = await self._sign_in(body.image) if self._sign_in else None
        auth = auth or {}  # with None the library would look for a sign-in in this user's own files, and send it to the node
        async with engine.stream(lambda client: client.pull(name, tag=tag, stream=True, decode=True, auth_config=auth)) as lines:
            async for line in lines:
                if line.get("error"):
                    raise NotFound(f"image: {body.node_id} could not fetch {body.image}: {str(line['error'])[:200].rstrip('.')}.")

    async def _started(self, engine: Engine, body: DeployBody) -> str:
        config = await self._config(engine, body)

        def make(client: Any) -> str:
            answer = client._post_json(client._url("/containers/create"), data=config, params={"name": body.name})
            return str(client._result(answer, True)["Id"])

        container = await made_or_undone(engine.call(make, START_SECONDS), lambda made: _removed(engine, made))
        try:
            await engine.call(lambda client: client.start(container), START_SECONDS)
            await asyncio.sleep(WATCHED_SECONDS)
            state = (await engine.call(lambda client: client.inspect_container(container)))["State"]
            if not state.get("Running"):
                said = await engine.call(lambda client: client.logs(container, tail=5))
                last = said.decode(errors="replace").strip().splitlines()[-1:] or [state.get("Error") or "nothing"]
                raise ContainerFailed(f"{body.name} ended at once with exit code {state.get('ExitCode')}; it said last: {last[0][:200]}.")
            await engine.call(lambda client: client.update_container(container, restart_policy=RESTART))
        except BaseException:
            await asyncio.shield(_removed(engine, container))
            raise
        return container

    async def _config(self, engine: Engine, body: DeployBody) -> dict[str, Any]:
        """Return the container as Docker's API has it. Raises Conflict for a node whose engine has no NVIDIA runtime."""
        host: dict[str, Any] = {
            "Mounts": [self._mounts.parsed(text).as_spec() for text in body.mounts],
        }
        config: dict[str, Any] = {"Image": body.image, "Env": list(body.env), "HostConfig": host, "Labels": {"fleet.commander": "true"}}
        if body.port is not None:
            config["ExposedPorts"] = {f"{body.port}/tcp": {}}
            host["PortBindings"] = {f"{body.port}/tcp": [{"HostPort": str(body.host_port or body.port)}]}
        if body.gpus:
            runtimes = (await engine.call(lambda client: client.info())).get("Runtimes") or {}
            if "nvidia" not in runtimes:
                raise Conflict(
                    f"gpus: the engine of {body.node_id} has no NVIDIA runtime; install nvidia-container-toolkit, onboard it again."
                )
            host["Runtime"] = "nvidia"
            config["Env"] += ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"]
        return config


async def _removed(engine: Engine, container: str) -> None:
    try:
        await engine.call(lambda client: client.remove_container(container, force=True), START_SECONDS)
    except FleetError:
        return
