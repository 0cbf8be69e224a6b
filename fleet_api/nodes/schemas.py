"""How nodes are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from fleet_api.kit.clock import rfc3339
from fleet_api.nodes.live import LiveNode


def percent(part: float, whole: float) -> float:
    """Return ``part`` of ``whole`` in percent with one decimal; 0 where there is no whole."""
    return round(100 * part / whole, 1) if whole else 0.0


class NodeView(BaseModel):
    """A node. cpu, memory, gpu, gpu_memory and disk in percent, temperature in degrees Celsius."""

    id: str = Field(examples=["agx0"])
    hostname: str = Field(examples=["agx0"])
    ip: str = Field(examples=["192.0.2.10"])
    status: str = Field(examples=["online"])
    cluster: str | None = Field(examples=["vision"])
    cpu: float = Field(examples=[15.2])
    memory: float = Field(examples=[45.8])
    gpu: float = Field(examples=[0.0])
    gpu_memory: float = Field(examples=[12.5])
    temperature: float | None = Field(examples=[45.0])
    disk: float = Field(examples=[65.2])
    last_seen: str | None = Field(examples=["2026-01-01T12:00:00.000Z"])
    reason: str | None = Field(description="What is wrong with it, if anything", examples=[None])

    @classmethod
    def of(cls, node: LiveNode) -> NodeView:
        """Return the node as shown in lists and events."""
        return cls(**_base(node))


class NodeDetail(NodeView):
    """A node with all that is known of it."""

    ssh_port: int
    credential_id: str | None = Field(description="The credential in the vault that opens it")
    labels: dict[str, Any]
    facts: dict[str, Any]
    services: list[str]
    loaded_models: list[str]
    models: list[str]
    job_types: list[str]
    gpu_clock_mhz: float | None = Field(description="None where the node's agent does not tell it, as with the three that follow")
    power_watts: float | None
    free_contiguous_mib: float | None = Field(description="Memory that is free in blocks of the largest size, where the GPU shares it")
    throttled: bool = Field(description="Whether the GPU's clock is lowered because of heat")

    @classmethod
    def of(cls, node: LiveNode, services: Sequence[str] = ()) -> NodeDetail:
        """Return the node as shown on its own, with the services of the swarm that have a task on it."""
        return cls(
            **_base(node),
            ssh_port=node.row.ssh_port,
            credential_id=node.row.credential_id,
            labels=node.row.labels,
            facts=node.row.facts,
            services=list(services),
            loaded_models=[node.loaded_model] if node.loaded_model and node.online else [],
            models=[model.name for model in node.capabilities.models],
            job_types=node.capabilities.job_types,
            gpu_clock_mhz=node.metrics.gpu_clock_mhz if node.online else None,
            power_watts=node.metrics.power_watts if node.online else None,
            free_contiguous_mib=node.metrics.free_contiguous_mib if node.online else None,
            throttled=node.online and node.metrics.throttled,
        )


class NodeList(BaseModel):
    """Every node, by name; with ``?details=true`` with all that is known of each."""

    nodes: list[NodeDetail | NodeView]


class Heartbeat(BaseModel):
    """When a node was last heard, and its GPU figures."""

    node_id: str
    last_seen: str | None
    age_seconds: float | None
    status: str
    gpu: float
    gpu_memory: float
    temperature: float | None

    @classmethod
    def of(cls, node: LiveNode, now: float) -> Heartbeat:
        """Return the heartbeat as of ``now``, epoch seconds."""
        view = NodeView.of(node)
        age = None if node.last_seen is None else round(max(0.0, now - node.last_seen), 3)
        return cls(
            node_id=node.id, last_seen=view.last_seen, age_seconds=age, status=view.status, gpu=view.gpu,
            gpu_memory=view.gpu_memory, temperature=view.temperature,
        )  # fmt: skip


class HeartbeatList(BaseModel):
    """Heartbeats of every node, by name."""

    heartbeats: list[Heartbeat]


class NodeMetrics(BaseModel):
    """A node's figures on ``/ws/metrics``; here ``gpu_memory`` is in MiB."""

    cpu: float
    memory: float
    gpu: float
    gpu_memory: float
    temperature: float | None
    disk: float
    status: str

    @classmethod
    def of(cls, node: LiveNode) -> NodeMetrics:
        """Return the figures; zeros for a node that is offline."""
        m = node.metrics
        if not node.online:
            return cls(cpu=0, memory=0, gpu=0, gpu_memory=0, temperature=None, disk=m.disk, status=node.status)
        return cls(
            cpu=m.cpu, memory=m.memory, gpu=m.gpu, gpu_memory=m.gpu_memory, temperature=m.temperature, disk=m.disk, status=node.status
        )


def _base(node: LiveNode) -> dict[str, Any]:
    m = node.metrics
    live = node.online
    return {
        "id": node.id,
        "hostname": node.row.hostname,
        "ip": node.row.ip,
        "status": node.status,
        "cluster": node.row.cluster,
        "cpu": m.cpu if live else 0,
        "memory": m.memory if live else 0,
        "gpu": m.gpu if live else 0,
        "gpu_memory": percent(m.gpu_memory, m.gpu_memory_total_mib) if live else 0,
        "temperature": m.temperature if live else None,
        "disk": m.disk,
        "last_seen": rfc3339(node.last_seen),
        "reason": node.row.state_reason or None,
    }
