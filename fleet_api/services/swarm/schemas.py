"""Bodies and answers of the swarm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from fleet_api.access.vault.schemas import Password, Username
from fleet_api.kit.fields import RequestBody, Text
from fleet_api.nodes.bodies import Address, Cluster, CredentialId, Port
from fleet_api.services.swarm.labels import NODE

SwarmRole = Literal["worker", "manager"]
SwarmLabel = Annotated[Text, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$")]
SwarmLabels = Annotated[
    dict[SwarmLabel, Annotated[Text, Field(max_length=200)]], Field(max_length=50, examples=[{"cluster": "vision", "nvidia": "true"}])
]


class SwarmStatus(BaseModel):
    """The swarm. ``is_manager`` says whether the control plane reaches a manager of one; zeros where there is none."""

    is_manager: bool
    swarm_id: str | None = Field(examples=["8l5yg3c2c8k1m0p7dkq0f1p2n"])
    manager_addr: str | None = Field(examples=["192.0.2.10:2377"])
    nodes_count: int
    managers_count: int
    workers_count: int
    age_seconds: float = Field(description="0 for what was read now; else how old it is, as no manager answers", examples=[0.0])
    reason: str | None = Field(description="Why it is not from now, or why there is no swarm")


class SwarmNode(BaseModel):
    """A member of the swarm. ``id`` is Docker's own, ``node_id`` the fleet's."""

    id: str = Field(examples=["q5pl7lb0r0szqdxm5qzl1x0gn"])
    node_id: str | None = Field(examples=["agx0"])
    hostname: str = Field(examples=["agx0"])
    status: str = Field(examples=["ready"])
    availability: str = Field(examples=["active"])
    role: str = Field(examples=["worker"])
    leader: bool
    reachable: bool | None = Field(description="Of a manager: whether the others reach it")
    addr: str = Field(examples=["192.0.2.10"])
    engine_version: str | None
    arch: str | None = Field(examples=["aarch64"])
    cpus: float
    memory_mib: int
    gpus: int = Field(description="GPUs that it offers as generic resources NVIDIA-GPU")
    labels: dict[str, str]
    message: str | None = Field(description="What the managers say of it")

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> SwarmNode:
        """Return a node of the engine's list as it is shown."""
        spec, status, description = raw.get("Spec") or {}, raw.get("Status") or {}, raw.get("Description") or {}
        manager, resources = raw.get("ManagerStatus") or {}, description.get("Resources") or {}
        labels = {str(name): str(value) for name, value in (spec.get("Labels") or {}).items()}
        return cls(
            id=raw["ID"], node_id=labels.get(NODE), hostname=description.get("Hostname") or "", status=status.get("State") or "unknown",
            availability=spec.get("Availability") or "active", role=spec.get("Role") or "worker", leader=bool(manager.get("Leader")),
            reachable=manager["Reachability"] == "reachable" if manager.get("Reachability") else None, addr=status.get("Addr") or "",
            engine_version=(description.get("Engine") or {}).get("EngineVersion"),
            arch=(description.get("Platform") or {}).get("Architecture"), cpus=(resources.get("NanoCPUs") or 0) / 1e9,
            memory_mib=(resources.get("MemoryBytes") or 0) // 2**20, gpus=gpus_of(raw), labels=labels,
            message=status.get("Message") or None,
        )  # fmt: skip


def gpus_of(raw: Mapping[str, Any], kind: str = "NVIDIA-GPU") -> int:
    """Return how many generic resources of a kind a node offers."""
    offered = ((raw.get("Description") or {}).get("Resources") or {}).get("GenericResources") or []
    named: int = sum((each.get("NamedResourceSpec") or {}).get("Kind") == kind for each in offered)
    discrete = [each.get("DiscreteResourceSpec") or {} for each in offered]
    return named + sum(int(each.get("Value") or 0) for each in discrete if each.get("Kind") == kind)


class JoinToken(BaseModel):
    """What a machine joins the swarm with. Whoever has it can join: keep it to yourself."""

    token: str = Field(examples=["SWMTKN-1-<secret>"])
    role: SwarmRole


class LabelsBody(RequestBody):
    """Labels to set; others stay. An empty text takes a label away."""

    labels: SwarmLabels


class RoleBody(RequestBody):
    """What a member shall be."""

    role: SwarmRole


class AvailabilityBody(RequestBody):
    """Whether a member takes tasks: ``drain`` moves what it has to others, ``pause`` gives it nothing new."""

    availability: Literal["active", "pause", "drain"]


class JoinRemoteBody(RequestBody):
    """A machine to bring into the swarm: with a password, or with a credential of the vault."""

    node_ip: Address
    username: Username | None = Field(None, examples=["nvidia"])
    password: Password | None = None
    credential_id: CredentialId | None = None
    cluster: Cluster | None = None
    role: SwarmRole = "worker"
    ssh_port: Port = 22

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.credential_id is None and (self.username is None or self.password is None):
            raise ValueError("credential_id is required, or username and password")
        return self


class JoinedRemote(BaseModel):
    """A machine that is in the swarm. ``node_id`` is the fleet's, ``swarm_node_id`` Docker's own."""

    status: str = Field(examples=["success"])
    message: str = Field(examples=["Node 192.0.2.10 joined swarm successfully"])
    node_id: str = Field(examples=["agx0"])
    swarm_node_id: str
    cluster: str | None = Field(examples=["vision"])
    operation_id: str
