"""Figures that more than one chapter shows."""

from __future__ import annotations

from pydantic import BaseModel

from fleet_api.jobs import repository
from fleet_api.lifespan import State


class NodeCounts(BaseModel):
    """Nodes by status."""

    total: int
    online: int
    offline: int


class JobCounts(BaseModel):
    """Jobs by state."""

    queued: int
    processing: int
    completed: int
    failed: int
    cancelled: int


class VisionSummary(BaseModel):
    """Vision workers by status; ``online_nodes`` counts busy and switching ones too."""

    online_nodes: int
    busy_nodes: int
    switching_nodes: int
    offline_nodes: int
    queue_length: int
    models_loaded: dict[str, list[str]]


def node_counts(fleet: State) -> NodeCounts:
    """Count the nodes."""
    nodes = fleet.nodes.all()
    online = sum(node.online for node in nodes)
    return NodeCounts(total=len(nodes), online=online, offline=len(nodes) - online)


async def job_counts(fleet: State) -> JobCounts:
    """Count the jobs."""
    found: dict[str, int] = {}
    for state, _, _, number in await fleet.db.read(repository.counts):
        found[state] = found.get(state, 0) + number
    return JobCounts(**{name: found.get(name, 0) for name in JobCounts.model_fields})


def vision_summary(fleet: State) -> VisionSummary:
    """Count the vision workers."""
    statuses = [node.vision_status for node in fleet.nodes.all() if "image_gen" in node.capabilities.job_types]
    return VisionSummary(
        online_nodes=sum(status != "offline" for status in statuses),
        busy_nodes=statuses.count("busy"),
        switching_nodes=statuses.count("switching"),
        offline_nodes=statuses.count("offline"),
        queue_length=len(fleet.jobs.index),
        models_loaded=fleet.catalogue.loaded(),
    )
