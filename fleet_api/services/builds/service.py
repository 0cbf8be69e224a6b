"""Image builds and deploys: checked when they are asked for, run as operations."""

from __future__ import annotations

import asyncio
from typing import Any

from fleet_api.adapters.docker.types import Engines
from fleet_api.nodes.service import NodeService
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.services.builds import context
from fleet_api.services.builds.build import IMAGE_BUILD, ImageBuild
from fleet_api.services.builds.build_and_deploy import BUILD_AND_DEPLOY, BuildAndDeploy
from fleet_api.services.builds.registry import FleetRegistry
from fleet_api.services.builds.schemas import BuildAndDeployBody, BuildBody, DeployBody
from fleet_api.services.running.deploying import Deploying
from fleet_api.settings import Settings


class Builds:
    """One instance a process."""

    def __init__(
        self, settings: Settings, nodes: NodeService, operations: OperationService, engines: Engines, registry: FleetRegistry,
        deploying: Deploying,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._nodes = nodes
        self._operations = operations
        self._registry = registry
        self._deploying = deploying
        kind = ImageBuild(settings, nodes, engines, registry)
        operations.kinds.add(kind)
        operations.kinds.add(BuildAndDeploy(kind, deploying))

    async def start(self, body: BuildBody, caller: str, *, checking: bool = False) -> Operation:
        """Queue a build. Raises InvalidValue, NotFound for an unknown node, Unavailable without build roots or the registry it wants."""
        request = await self._request(body)
        return await self._operations.submit(IMAGE_BUILD, request, caller=caller, node_ids=_nodes(body), checking=checking)

    async def deploy(self, body: DeployBody, caller: str, *, force: bool = False) -> Operation:
        """Queue a deploy. Raises as :meth:`Deploying.start`."""
        request = {"service": body.service(body.image).model_dump()}
        return await self._deploying.start("create", body.service_name, request, caller, force=force)

    async def build_and_deploy(self, body: BuildAndDeployBody, caller: str, *, checking: bool = False, force: bool = False) -> Operation:
        """Queue both as one operation. Raises as :meth:`start`, and Conflict while another one deploys that service."""
        request = await self._request(body.model_copy(update={"push": True}))
        if not checking:
            self._deploying.check_free(body.service_name)
        request |= {"service": body.service(request["image"]).model_dump(), "force": force}
        return await self._operations.submit(BUILD_AND_DEPLOY, request, caller=caller, node_ids=_nodes(body), checking=checking)

    async def _request(self, body: BuildBody) -> dict[str, Any]:
        """Return what is kept of the request."""
        if body.node_id is not None:
            self._nodes.get(body.node_id)
        roots, home = self._settings.build_roots, self._settings.home
        await asyncio.to_thread(context.find, roots, home, body.dockerfile_path, body.context_path)
        known = await self._registry.access() if body.push else await self._registry.known()
        push = known is not None if body.push is None else body.push
        prefix = f"{known.address}/" if known else ""
        kept = body.model_dump(include=set(BuildBody.model_fields))
        return {**kept, "push": push, "image": f"{prefix}{body.image_name}:{body.tag}"}


def _nodes(body: BuildBody) -> list[str]:
    return [body.node_id] if body.node_id else []
