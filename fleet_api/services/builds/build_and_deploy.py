"""The kind ``build_and_deploy``: a build, a push, and the service that runs just what was built, by its digest."""

from __future__ import annotations

from typing import Any

from fleet_api.errors import FleetError
from fleet_api.operations.work import Work
from fleet_api.services.builds.build import ImageBuild
from fleet_api.services.running.deploying import Deploying, lock_of
from fleet_api.services.running.schemas import ServiceBody

BUILD_AND_DEPLOY = "build_and_deploy"


class BuildAndDeploy:
    """See :class:`Kind`."""

    name = BUILD_AND_DEPLOY
    waits_only = False

    def __init__(self, builds: ImageBuild, deploying: Deploying) -> None:
        self._builds = builds
        self._deploying = deploying

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        return f"Build {request['image_name']}:{request['tag']} and deploy it as {request['service']['name']}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`."""
        return [*self._builds.locks(request), lock_of(request["service"]["name"])]

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        await self._builds.run(work)
        if work.checking:
            return
        image = f"{work.result['image']}@{work.result['digest']}"
        service = ServiceBody.model_validate({**work.request["service"], "image": image})
        work.step("deploy", 99)
        try:
            await self._deploying.deploy_and_tell(service, work, force=work.request["force"])
        except FleetError as error:
            raise work.failed(error) from error
