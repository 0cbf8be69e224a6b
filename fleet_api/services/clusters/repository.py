"""SQL of clusters."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from fleet_api.services.clusters.models import Cluster

clusters = Cluster.__table__  # type: ignore[attr-defined]


def every(db: Connection) -> list[Cluster]:
    """Return all clusters by name."""
    return [Cluster(**row) for row in db.execute(select(clusters).order_by(clusters.c.name)).mappings()]


def by_name(db: Connection, name: str) -> Cluster | None:
    """Return the cluster of a name."""
    row = db.execute(select(clusters).where(clusters.c.name == name)).mappings().first()
    return Cluster(**row) if row else None


def add(db: Connection, cluster: Cluster) -> None:
    """Insert a cluster."""
    db.execute(insert(clusters).values(**cluster.model_dump()))


def set_manager(db: Connection, cluster_id: str, node_id: str | None) -> None:
    """Note which node manages a cluster."""
    db.execute(update(clusters).where(clusters.c.id == cluster_id).values(manager_node_id=node_id))


def remove(db: Connection, cluster_id: str) -> None:
    """Delete a cluster."""
    db.execute(delete(clusters).where(clusters.c.id == cluster_id))
