"""SQL of the export: rows as they are, a page at a time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from fleet_api.access.vault.models import Credential
from fleet_api.jobs.models import Attempt, JobTable
from fleet_api.nodes.models import Node

jobs = JobTable.__table__  # type: ignore[attr-defined]
attempts = Attempt.__table__  # type: ignore[attr-defined]
nodes = Node.__table__  # type: ignore[attr-defined]
credentials = Credential.__table__  # type: ignore[attr-defined]


def all_nodes(db: Connection) -> list[dict[str, Any]]:
    """Return every node, by id."""
    return [dict(row) for row in db.execute(select(nodes).order_by(nodes.c.id)).mappings()]


def users(db: Connection) -> dict[str, str]:
    """Return whom each credential signs in as, by its id."""
    return {row.id: row.username for row in db.execute(select(credentials.c.id, credentials.c.username))}


def jobs_after(db: Connection, seq: int, limit: int) -> list[dict[str, Any]]:
    """Return jobs that are newer than ``seq``, oldest first, each with its attempts."""
    found = [dict(row) for row in db.execute(select(jobs).where(jobs.c.seq > seq).order_by(jobs.c.seq).limit(limit)).mappings()]
    by_id: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in found}
    query = select(attempts).where(attempts.c.job_id.in_(list(by_id))).order_by(attempts.c.job_id, attempts.c.attempt)
    for row in db.execute(query).mappings():
        by_id[row["job_id"]].append({name: value for name, value in row.items() if name != "job_id"})
    return [{**row, "attempts": by_id[row["id"]]} for row in found]
