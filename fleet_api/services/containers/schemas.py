"""Bodies and answers of containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from fleet_api.kit.fields import RequestBody, Text
from fleet_api.services.fields import ContainerName, Image, PublishedPort, Variables

MountText = Annotated[Text, Field(min_length=1, max_length=2000, examples=["/mnt/s3-models:/models"])]


class ContainerView(BaseModel):
    """A container of an engine."""

    id: str = Field(examples=["4f66ad9a0b2e"])
    name: str = Field(examples=["comfyui"])
    image: str = Field(examples=["comfyui:latest"])
    status: str = Field(examples=["running"])
    ports: dict[str, int] = Field(examples=[{"8188/tcp": 8188}])

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> ContainerView:
        """Return a container of the engine's list."""
        ports = {f"{each['PrivatePort']}/{each['Type']}": each["PublicPort"] for each in raw.get("Ports") or [] if each.get("PublicPort")}
        names = [str(name).lstrip("/") for name in raw.get("Names") or []]
        name = next((each for each in names if "/" not in each), raw["Id"][:12])
        return cls(id=raw["Id"][:12], name=name, image=raw.get("Image") or "", status=raw.get("State") or "", ports=ports)


class ContainerList(BaseModel):
    """Containers of one engine, by name."""

    containers: list[ContainerView]
    total: int
    server: str = Field(description="Whose engine it is", examples=["manager"])


class ContainerDone(BaseModel):
    """What a container was told to do, and what it is now."""

    status: str = Field(examples=["running"])
    container_id: str
    name: str
    action: str = Field(examples=["restart"])


class ContainerLogs(BaseModel):
    """The last lines of a container."""

    container_id: str
    logs: str


class NodeContainerLogs(BaseModel):
    """The last lines of a container of a node."""

    node_id: str
    container: str
    logs: str


class DeployBody(RequestBody):
    """A container to run on one node."""

    node_id: Annotated[Text, Field(min_length=1, max_length=48, examples=["agx0"])]
    image: Image
    name: ContainerName
    port: PublishedPort | None = Field(None, description="Inside the container", examples=[8080])
    host_port: PublishedPort | None = Field(None, description="On the node; without it, the same as port", examples=[8080])
    gpus: bool = False
    mounts: Annotated[list[MountText], Field(max_length=100)] = Field(default_factory=list)
    env: Variables = Field(default_factory=list)

    @model_validator(mode="after")
    def _host_port_of_a_port(self) -> Self:
        if self.host_port is not None and self.port is None:
            raise ValueError("host_port wants port, the one inside the container")
        return self


class DeployedContainer(BaseModel):
    """A container that runs."""

    status: str = Field(examples=["running"])
    node_id: str
    container_id: str
    name: str
    operation_id: str


class RemovedContainer(BaseModel):
    """A container that is gone."""

    status: str = Field(examples=["removed"])
    node_id: str
    name: str
