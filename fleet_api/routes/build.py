"""Chapter: build."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from fleet_api.deps import CallerNamed, Fleet, Limit, Offset
from fleet_api.errors import documented
from fleet_api.operations.schemas import Started
from fleet_api.services.builds.schemas import BuildAndDeployBody, BuildBody, BuildStarted, DeployBody, RegistryImage, RegistryImages
from fleet_api.services.catalogue.service import ServiceCatalogue, catalogue

router = APIRouter(prefix="/api/build", tags=["build"])

Check = Annotated[bool, Query(description="A plan: build nothing")]
Force = Annotated[bool, Query(description="Go on where no node can hold it now")]


@router.get("/registry/images", summary="What the registry holds", responses=documented(400, 503))
async def registry_images(fleet: Fleet, limit: Limit = 100, offset: Offset = 0) -> RegistryImages:
    """Return the images of the fleet's registry by name, each with its tags."""
    found, total, address = await fleet.registry.images(limit, offset)
    images = [RegistryImage(name=name, tags=tags, full_image=f"{address}/{name}") for name, tags in found]
    return RegistryImages(images=images, registry=address, total=total)


@router.get("/catalogue", summary="Services that a fleet may run")
async def service_catalogue() -> ServiceCatalogue:
    """Return the list of services: image, ports, variables, mounts, health check, what each needs, and whether its image was ever run."""
    return catalogue()


@router.post("/build", status_code=201, summary="Build an image", responses=documented(400, 404, 413, 429, 503))
async def build(fleet: Fleet, caller: CallerNamed, body: BuildBody, check: Check = False) -> BuildStarted:
    """Build an image on this machine's engine or a node's, and push it to the fleet's registry.

    The operation tells each step and line as it comes; cancelling it ends the build at once. Its result has the image's id and digest.
    """
    return BuildStarted.of_build(await fleet.builds.start(body, caller.name, checking=check))


@router.post("/deploy", status_code=201, summary="Deploy an image", responses=documented(400, 404, 409, 413, 429, 503))
async def deploy(fleet: Fleet, caller: CallerNamed, body: DeployBody, force: Force = False) -> Started:
    """Run an image as a service on a cluster's nodes, or bring the service of that name to it, and wait for Swarm's word."""
    body = body.model_copy(update={"cluster": (await fleet.clusters.row(body.cluster)).name})
    fleet.running.check_new(body.service(body.image))
    row = await fleet.builds.deploy(body, caller.name, force=force)
    return Started(status=row.state, message=row.title, operation_id=row.id)


@router.post(
    "/build-and-deploy", status_code=201, summary="Build an image and deploy it", responses=documented(400, 404, 409, 413, 429, 503)
)
async def build_and_deploy(
    fleet: Fleet, caller: CallerNamed, body: BuildAndDeployBody, check: Check = False, force: Force = False
) -> BuildStarted:
    """Build an image, push it to the fleet's registry, and run what was built, by its digest, as a service on a cluster's nodes."""
    body = body.model_copy(update={"cluster": (await fleet.clusters.row(body.cluster)).name})
    fleet.running.check_new(body.service("image"))
    return BuildStarted.of_build(await fleet.builds.build_and_deploy(body, caller.name, checking=check, force=force))
