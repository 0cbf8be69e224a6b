"""Image builds: checked when they are asked for, run as operations of the kind ``image_build``."""

from __future__ import annotations

import asyncio
from typing import Any

from fleet_api.adapters.docker.types import Engines
from fleet_api.nodes.service import NodeService
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.services.builds import context
from fleet_api.services.builds.build import IMAGE_BUILD, ImageBuild
from fleet_api.services.builds.registry import FleetRegistry
from fleet_api.services.builds.schemas import BuildBody
from fleet_api.settings import Settings


class Builds:
    """One instance a process."""

    def __init__(
        self, settings: Settings, nodes: NodeService, operations: OperationService, engines: Engines, registry: FleetRegistry
    ) -> None:
        self._settings = settings
        self._nodes = nodes
        self._operations = operations
        self._registry = registry
        operations.kinds.add(ImageBuild(settings, nodes, engines, registry))

    async def start(self, body: BuildBody, caller: str, checking: bool = False, parent_id: str | None = None) -> Operation:
        """Queue a build. Raises InvalidValue, NotFound for an unknown node, Unavailable without build roots or the registry it wants."""
        request = await self.request(body)
        nodes = [body.node_id] if body.node_id else []
        return await self._operations.submit(
            IMAGE_BUILD, request, caller=caller, node_ids=nodes, checking=checking, parent_id=parent_id
        )  # fmt: skip

    async def request(self, body: BuildBody) -> dict[str, Any]:
        """Return what is kept of the request. Raises as :meth:`start`."""
        if body.node_id is not None:
            self._nodes.get(body.node_id)
        roots, home = self._settings.build_roots, self._settings.home
        await asyncio.to_thread(context.find, roots, home, body.dockerfile_path, body.context_path)
        known = await self._registry.access() if body.push else await self._registry.known()
        push = known is not None if body.push is None else body.push
        prefix = f"{known.address}/" if known else ""
        return {**body.model_dump(), "push": push, "image": f"{prefix}{body.image_name}:{body.tag}"}
