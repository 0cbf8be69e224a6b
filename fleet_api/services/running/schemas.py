"""Bodies and answers of services."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from fleet_api.kit.fields import Integer, Number, RequestBody, Text
from fleet_api.services.fields import Image, Path, PublishedPort, ServiceName, Variables

REPLICAS = 1000
Replicas = Annotated[Integer, Field(ge=0, le=REPLICAS, examples=[3])]
Gpus = Annotated[Integer, Field(ge=0, le=64)]
Constraint = Annotated[Text, Field(min_length=1, max_length=300, examples=["node.labels.cluster==vision"])]
Seconds = Annotated[Number, Field(ge=0, le=86_400)]
Word = Annotated[Text, Field(max_length=4096)]


class PortBody(RequestBody):
    """A port. ``ingress`` answers on every node of the swarm, ``host`` on those alone where a task runs."""

    target_port: PublishedPort
    published_port: PublishedPort | None = Field(None, description="Without it, one that Docker chooses")
    protocol: Literal["tcp", "udp"] = "tcp"
    mode: Literal["ingress", "host"] = "ingress"


class MountBody(RequestBody):
    """A folder of the node, or a volume by its name, and where the container sees it."""

    source: Path
    target: Annotated[Text, Field(min_length=1, max_length=1000, examples=["/models"])]
    read_only: bool = False


class ResourcesBody(RequestBody):
    """What one task needs. GPUs are counted as the generic resource NVIDIA-GPU, which nodes offer."""

    gpu: Gpus | None = Field(None, examples=[1])
    cpus: Annotated[Number, Field(ge=0.01, le=4096)] | None = None
    memory_mib: Annotated[Integer, Field(ge=4, le=16_777_216)] | None = None


class RestartBody(RequestBody):
    """When a task is started again."""

    condition: Literal["none", "on-failure", "any"] = "any"
    delay_seconds: Seconds = 5.0
    max_attempts: Annotated[Integer, Field(ge=0, le=1000)] | None = Field(None, description="Without it, for ever")


class UpdateBody(RequestBody):
    """How an update goes on its way, and what happens when its tasks fail."""

    parallelism: Annotated[Integer, Field(ge=0, le=REPLICAS)] = Field(1, description="Tasks at once; 0 is all")
    delay_seconds: Seconds = 0.0
    monitor_seconds: Annotated[Number, Field(ge=0.1, le=3600)] = Field(5.0, description="How long a new task must last to be good")
    failure_action: Literal["rollback", "pause", "continue"] = "rollback"
    order: Literal["stop-first", "start-first"] = "stop-first"


class HealthBody(RequestBody):
    """What tells whether a task is well: a command that ends with 0."""

    test: Annotated[list[Word], Field(min_length=1, max_length=50, examples=[["CMD-SHELL", "curl -f http://127.0.0.1:8080/health"]])]
    interval_seconds: Annotated[Number, Field(ge=1, le=3600)] = 30.0
    timeout_seconds: Annotated[Number, Field(ge=1, le=3600)] = 10.0
    retries: Annotated[Integer, Field(ge=1, le=100)] = 3
    start_seconds: Annotated[Number, Field(ge=0, le=3600)] = 0.0


class ServiceBody(RequestBody):
    """A service to run in the swarm."""

    name: ServiceName
    image: Image
    replicas: Replicas = 1
    mode: Literal["replicated", "global"] = "replicated"
    command: Annotated[list[Word], Field(max_length=200)] | None = Field(None, description="In place of the image's own")
    ports: Annotated[list[PortBody], Field(max_length=100)] = Field(default_factory=list)
    env: Variables = Field(default_factory=list)
    mounts: Annotated[list[MountBody], Field(max_length=100)] = Field(default_factory=list)
    constraints: Annotated[list[Constraint], Field(max_length=50)] = Field(default_factory=list)
    cluster: Annotated[Text, Field(min_length=1, max_length=100)] | None = Field(None, description="As node.labels.cluster==<this>")
    resources: ResourcesBody = Field(default_factory=lambda: ResourcesBody.model_validate({}))
    restart: RestartBody = Field(default_factory=lambda: RestartBody.model_validate({}))
    update: UpdateBody = Field(default_factory=lambda: UpdateBody.model_validate({}))
    health: HealthBody | None = None


class ServiceChange(RequestBody):
    """What to change of a service; what is left out stays."""

    image: Image | None = None
    replicas: Replicas | None = None
    env: Variables | None = None
    command: Annotated[list[Word], Field(max_length=200)] | None = None
    constraints: Annotated[list[Constraint], Field(max_length=50)] | None = None
    resources: ResourcesBody | None = Field(None, description="Those of them that are given; a gpu of 0 takes it away")
    update: UpdateBody | None = None
    restart: RestartBody | None = None


class ScaleBody(RequestBody):
    """How many."""

    replicas: Replicas | None = None


class ServiceView(BaseModel):
    """A service in a list."""

    id: str = Field(examples=["9mnpnzenvg8p8tdbtq4wvbkcz"])
    name: str = Field(examples=["vision-sdxl"])
    image: str = Field(examples=["192.0.2.10:5000/sdxl-trt:r35.3.1"])
    replicas: int = Field(description="Wanted")
    running: int
    mode: str = Field(examples=["replicated"])


class TaskView(BaseModel):
    """One task: a container somewhere, or what became of one."""

    id: str
    slot: int | None
    node_id: str | None = Field(description="The fleet's node, or the host name of a member that is none", examples=["agx0"])
    state: str = Field(examples=["running"])
    desired_state: str = Field(examples=["running"])
    image: str
    error: str | None
    exit_code: int | None
    message: str | None
    updated_at: str | None
    container_id: str | None


class ServiceDetail(ServiceView):
    """A service with all that it is made of, and its tasks, newest first."""

    ports: list[dict[str, Any]]
    env: list[str]
    mounts: list[dict[str, Any]]
    constraints: list[str]
    resources: dict[str, Any]
    update_status: dict[str, Any] | None = Field(description="How its last update went")
    created_at: str | None
    updated_at: str | None
    tasks: list[TaskView]


class Deployed(BaseModel):
    """How a deploy ended, as Swarm itself has it."""

    status: Literal["completed", "rolled_back", "failed"]
    service_id: str
    name: str
    message: str
    error: str | None = Field(description="What the task said that failed")
    exit_code: int | None
    operation_id: str | None = None


class ServiceLogs(BaseModel):
    """The last lines of every task."""

    service_id: str
    logs: str


class Removed(BaseModel):
    """What was removed."""

    status: str = Field(examples=["removed"])
    id: str
    name: str
