"""What runs by the clock: the jobs of the schedule, in code."""

from __future__ import annotations

from fleet_api.nodes.plays import NodePlays
from fleet_api.nodes.states import NodeState
from fleet_api.operations.schedule import ScheduledJob
from fleet_api.retention import Retention
from fleet_api.settings import Settings

RETENTION_SECONDS = 600.0
CALLER = "schedule"


def scheduled(settings: Settings, plays: NodePlays, retention: Retention) -> list[ScheduledJob]:
    """Return every scheduled job."""

    async def clean() -> None:
        await retention.run()

    async def examine() -> str:
        found = [node.id for node in plays.nodes.all() if node.row.state == NodeState.MANAGED and node.row.credential_id]
        if not found:
            return "There is no node to examine."
        return f"Operation {(await plays.start('doctor', found, None, caller=CALLER)).id}"

    jobs = [ScheduledJob("retention", "Delete what is older or more than is kept", RETENTION_SECONDS, clean)]
    if settings.doctor_schedule != "off":
        jobs.append(ScheduledJob("doctor", "Examine every node", settings.doctor_schedule, examine))
    return jobs
