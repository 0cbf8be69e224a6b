"""The catalogue: read once from ``services.toml``, checked against its schema."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleet_api.errors import InvalidValue, NotFound
from fleet_api.services.fields import PublishedPort, ServiceName
from fleet_api.services.running.schemas import HealthBody, MountBody, PortBody, ResourcesBody, ServiceBody

FILE = Path(__file__).with_name("services.toml")
REGISTRY = "{registry}/"


class CatalogueMount(BaseModel):
    """A folder of the node, or a volume of its engine, and where the container sees it."""

    model_config = ConfigDict(extra="forbid")

    folder: str | None = Field(None, examples=["/mnt/s3-models"])
    volume: str | None = Field(None, examples=["redis"])
    target: str = Field(pattern="^/", examples=["/data"])

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.folder is None) == (self.volume is None):
            raise ValueError("a mount names either a folder or a volume")
        return self


class CatalogueService(BaseModel):
    """A service that a fleet may run."""

    model_config = ConfigDict(extra="forbid")

    name: ServiceName
    title: str
    image: str = Field(description="{registry} is the fleet's own registry", examples=["redis:7-alpine"])
    source: str | None = Field(None, description="Where its Dockerfiles are, in this project")
    command: list[str] = Field([], description="In place of the image's own")
    ports: list[PublishedPort] = Field(examples=[[8188]])
    env: dict[str, str] = Field(description="An empty value is for you to give")
    mounts: list[CatalogueMount]
    health: list[str] | None = None
    gpus: int = Field(ge=0)
    memory_mib: int = Field(ge=1)
    architectures: list[Literal["arm64", "amd64"]] = Field(min_length=1)
    needs: list[ServiceName] = Field(description="Services that must be there before")
    verified: bool = Field(description="Whether this very image was pulled and run by the project")
    note: str

    def wants(self, env: dict[str, str]) -> list[str]:
        """Return the variables that have no value yet."""
        return [name for name, value in self.env.items() if not (env.get(name) or value)]

    def body(self, registry: str | None, cluster: str | None = None, env: dict[str, str] | None = None, replicas: int = 1) -> ServiceBody:
        """Return the service to create. Raises InvalidValue where the registry or a variable's value is missing."""
        given = env or {}
        if self.image.startswith(REGISTRY) and registry is None:
            raise InvalidValue(
                f"{self.name} is an image of the fleet's own registry, and there is none; run the playbook 'registry' first."
            )
        if missing := self.wants(given):
            raise InvalidValue(f"env: {self.name} wants a value for {', '.join(missing)}.")
        return ServiceBody(
            name=self.name, image=self.image.replace("{registry}", registry or ""), cluster=cluster, replicas=replicas,
            command=self.command or None, env=[f"{name}={value}" for name, value in {**self.env, **given}.items()],
            ports=[PortBody(target_port=port, published_port=port, mode="host") for port in self.ports],
            mounts=[MountBody(source=mount.folder or mount.volume or "", target=mount.target) for mount in self.mounts],
            resources=ResourcesBody(gpu=self.gpus or None), health=HealthBody(test=self.health) if self.health else None,
        )  # fmt: skip


class ServiceCatalogue(BaseModel):
    """Every service, by name."""

    services: list[CatalogueService]


@lru_cache(maxsize=1)
def catalogue() -> ServiceCatalogue:
    """Return the list."""
    found = tomllib.loads(FILE.read_text())
    return ServiceCatalogue(services=sorted(map(CatalogueService.model_validate, found["service"]), key=lambda each: each.name))


def named(name: str) -> CatalogueService:
    """Return a service of the list. Raises NotFound, which names those there are."""
    found = {each.name: each for each in catalogue().services}
    if name not in found:
        raise NotFound(f"The catalogue has no {name[:60]!r}; it has {', '.join(found)}.")
    return found[name]
