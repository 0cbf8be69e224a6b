"""SQL of nodes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from fleet_api.nodes.models import Node

nodes = Node.__table__  # type: ignore[attr-defined]


def add(db: Connection, node: Node) -> None:
    """Insert a node."""
    db.execute(insert(nodes).values(**node.model_dump()))


def change(db: Connection, node_id: str, **values: Any) -> None:
    """Set columns of one node."""
    db.execute(update(nodes).where(nodes.c.id == node_id).values(**values))


def remove(db: Connection, node_id: str) -> None:
    """Delete one node."""
    db.execute(delete(nodes).where(nodes.c.id == node_id))


def of_host(db: Connection, hostname: str) -> list[Node]:
    """Return the nodes of this host name."""
    return [Node(**row) for row in db.execute(select(nodes).where(nodes.c.hostname == hostname)).mappings()]


def get(db: Connection, node_id: str) -> Node | None:
    """Return one node."""
    row = db.execute(select(nodes).where(nodes.c.id == node_id)).mappings().first()
    return Node(**row) if row else None


def every(db: Connection) -> list[Node]:
    """Return all nodes by name."""
    return [Node(**row) for row in db.execute(select(nodes).order_by(nodes.c.id)).mappings()]


def by_machine(db: Connection, machine_id: str) -> Node | None:
    """Return the node of a machine id; an empty id matches nothing."""
    if not machine_id:
        return None
    row = db.execute(select(nodes).where(nodes.c.machine_id == machine_id)).mappings().first()
    return Node(**row) if row else None
