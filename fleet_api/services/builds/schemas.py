"""How an image build is asked for, and what the registry holds is shown."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from fleet_api.kit.fields import Integer, RequestBody, Text
from fleet_api.operations.models import Operation
from fleet_api.operations.schemas import Started
from fleet_api.services.fields import Image, ServiceName
from fleet_api.services.running.schemas import Gpus, Replicas, ResourcesBody, ServiceBody

PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
IMAGE_NAME = re.compile(rf"{PART}(/{PART}){{0,7}}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
ARGUMENT = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
LONGEST_ARGUMENT = 4_096
Platform = Literal["linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/arm/v7"]


def _a_path(value: str) -> str:
    if any(ord(char) < 32 for char in value):
        raise ValueError("must be a path without control characters")
    return value


def _a_name(value: str) -> str:
    if not IMAGE_NAME.fullmatch(value):
        raise ValueError("must be lower-case letters and digits, with single ._- or / between them, such as team/my-service")
    return value


def _a_tag(value: str) -> str:
    if not TAG.fullmatch(value):
        raise ValueError("must be letters, digits and ._-, such as v1.0")
    return value


def _short(value: str) -> str:
    if len(value) > LONGEST_ARGUMENT:
        raise ValueError(f"must be at most {LONGEST_ARGUMENT} characters long")
    return value


PathText = Annotated[Text, AfterValidator(_a_path)]
ArgumentName = Annotated[str, StringConstraints(pattern=ARGUMENT)]
ArgumentValue = Annotated[Text, AfterValidator(_short)]


class BuildBody(RequestBody):
    """What to build, from what, where, and whether the registry gets it."""

    image_name: Annotated[Text, AfterValidator(_a_name)] = Field(
        min_length=1, max_length=200, description="Without registry and tag", examples=["my-service"]
    )
    tag: Annotated[Text, AfterValidator(_a_tag)] = Field(min_length=1, max_length=128, examples=["v1.0"])
    dockerfile_path: PathText = Field(
        min_length=1,
        max_length=1_000,
        description="A Dockerfile, or its folder, in one of the build roots",
        examples=["/srv/images/my-service"],
    )
    context_path: PathText | None = Field(
        None, min_length=1, max_length=1_000, description="The folder that COPY reads from  [default: the Dockerfile's]"
    )
    build_args: dict[ArgumentName, ArgumentValue] = Field(
        {}, max_length=100, description="Values of the Dockerfile's ARGs. They stay in the image's history: no place for secrets"
    )
    platform: Platform | None = Field(None, description="The platform  [default: the engine's own]", examples=["linux/arm64"])
    node_id: str | None = Field(
        None, min_length=1, max_length=100, description="Whose engine builds  [default: this machine's]", examples=["agx0"]
    )
    push: bool | None = Field(None, description="Whether the registry gets it  [default: where there is one]")
    timeout_seconds: Integer = Field(7_200, ge=1, le=86_400, description="After so long the build is ended")


class Placed(RequestBody):
    """Where an image runs, and as what."""

    service_name: ServiceName
    cluster: Text = Field(min_length=1, max_length=100, description="Whose nodes run it", examples=["vision"])
    replicas: Replicas = 1
    gpus: Gpus | None = Field(
        None, description="For each task, of the generic resource NVIDIA-GPU  [default: as it is, none at first]", examples=[1]
    )

    def service(self, image: str) -> ServiceBody:
        """Return the service that runs an image there."""
        resources = ResourcesBody(gpu=self.gpus)
        return ServiceBody(name=self.service_name, image=image, cluster=self.cluster, replicas=self.replicas, resources=resources)


class DeployBody(Placed):
    """Which image to deploy."""

    image: Image


class BuildAndDeployBody(BuildBody, Placed):
    """What to build and where to run it; the fleet's registry brings it to the nodes, so it is always pushed."""


class BuildStarted(Started):
    """A build that was queued."""

    image: str = Field(description="What the image will be called", examples=["192.0.2.10:5000/my-service:v1.0"])

    @classmethod
    def of_build(cls, row: Operation) -> BuildStarted:
        """Return the operation as it is shown."""
        return cls(status=row.state, message=row.title, operation_id=row.id, image=str(row.request["image"]))


class RegistryImage(BaseModel):
    """An image and its tags."""

    name: str = Field(examples=["sdxl-trt"])
    tags: list[str] = Field(examples=[["r35.3.1", "latest"]])
    full_image: str = Field(examples=["192.0.2.10:5000/sdxl-trt"])


class RegistryImages(BaseModel):
    """A page of what the registry holds, by name."""

    images: list[RegistryImage]
    registry: str = Field(examples=["192.0.2.10:5000"])
    total: int
