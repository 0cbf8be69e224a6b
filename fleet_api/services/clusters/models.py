"""Table of clusters."""

from __future__ import annotations

from sqlmodel import Field

from fleet_api.kit.table import Table


class Cluster(Table, table=True):
    """Nodes under one name. Which nodes are in it stands in their own rows: ``nodes.cluster`` is this name."""

    __tablename__ = "clusters"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    cluster_type: str = "swarm"
    manager_node_id: str | None = None
    created_at: float
