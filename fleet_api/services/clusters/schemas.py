"""Bodies and answers of clusters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from fleet_api.kit.fields import RequestBody, Text
from fleet_api.nodes.bodies import Cluster

NodeRef = Annotated[Text, Field(min_length=1, max_length=48, examples=["agx0"])]


class ClusterBody(RequestBody):
    """A cluster to make. The manager is a member, named among ``node_ids`` or not; it forms the swarm where there is none."""

    name: Cluster
    cluster_type: Literal["swarm"] = "swarm"
    node_ids: Annotated[list[NodeRef], Field(min_length=1, max_length=500, examples=[["agx0", "agx1"]])]
    manager_node_id: NodeRef | None = Field(None, description="Without it, the first of node_ids", examples=["agx0"])


class ClusterView(BaseModel):
    """A cluster. ``status`` is active (every node is online and ready), degraded (some are not) or empty."""

    id: str = Field(examples=["550e8400-e29b-41d4-a716-446655440000"])
    name: str = Field(examples=["vision"])
    cluster_type: str = Field(examples=["swarm"])
    node_ids: list[str] = Field(examples=[["agx0", "agx1"]])
    manager_node_id: str | None = Field(examples=["agx0"])
    status: Literal["active", "degraded", "empty"]
    reason: str | None = Field(description="What is wrong where it is degraded")
    created_at: str | None
    operation_id: str | None = None


class ClusterNode(BaseModel):
    """A node of a cluster; cpu, memory and gpu in percent."""

    node_id: str = Field(examples=["agx0"])
    status: str = Field(examples=["online"])
    cpu: float
    memory: float
    gpu: float
    is_manager: bool
    swarm_status: str | None = Field(description="What the swarm says of it; null where it is not in the swarm", examples=["ready"])


class ClusterStatus(BaseModel):
    """A cluster with its nodes."""

    cluster: ClusterView
    nodes: list[ClusterNode]
    online_count: int
    total_count: int


class ClusterGone(BaseModel):
    """A cluster that was removed."""

    status: str = Field(examples=["removed"])
    id: str
    name: str
    operation_id: str
