"""Chapter: build."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from fleet_api.deps import CallerNamed, Fleet, Limit, Offset
from fleet_api.errors import documented
from fleet_api.services.builds.schemas import BuildBody, BuildStarted, RegistryImage, RegistryImages

router = APIRouter(prefix="/api/build", tags=["build"])

Check = Annotated[bool, Query(description="A plan: build nothing")]


@router.get("/registry/images", summary="What the registry holds", responses=documented(400, 503))
async def registry_images(fleet: Fleet, limit: Limit = 100, offset: Offset = 0) -> RegistryImages:
    """Return the images of the fleet's registry by name, each with its tags."""
    found, total, address = await fleet.registry.images(limit, offset)
    images = [RegistryImage(name=name, tags=tags, full_image=f"{address}/{name}") for name, tags in found]
    return RegistryImages(images=images, registry=address, total=total)


@router.post("/build", status_code=201, summary="Build an image", responses=documented(400, 404, 413, 429, 503))
async def build(fleet: Fleet, caller: CallerNamed, body: BuildBody, check: Check = False) -> BuildStarted:
    """Build an image on this machine's engine or a node's, and push it to the fleet's registry.

    The operation tells each step and line as it comes; cancelling it ends the build at once. Its result has the image's id and digest.
    """
    return BuildStarted.of_build(await fleet.builds.start(body, caller.name, checking=check))
