"""What runs by the clock: the jobs of the schedule, in code."""

from __future__ import annotations

from fleet_api.models.scanning import Scanner
from fleet_api.nodes.plays import NodePlays
from fleet_api.nodes.states import NodeState
from fleet_api.operations.schedule import ScheduledJob
from fleet_api.outputs.service import OutputService
from fleet_api.outputs.sync.service import OutputSync
from fleet_api.retention import Retention
from fleet_api.settings import Settings

RETENTION_SECONDS = 600.0
CLEANUP_SECONDS = 3600.0
MODEL_SCAN_SECONDS = 60.0
CALLER = "schedule"


def scheduled(
    settings: Settings, plays: NodePlays, retention: Retention, outputs: OutputService, sync: OutputSync, models: Scanner
) -> list[ScheduledJob]:  # fmt: skip
    """Return every scheduled job."""

    async def clean() -> None:
        await retention.run()

    async def examine() -> str:
        found = [node.id for node in plays.nodes.all() if node.row.state == NodeState.MANAGED and node.row.credential_id]
        if not found:
            return "There is no node to examine."
        return f"Operation {(await plays.start('doctor', found, None, caller=CALLER)).id}"

    async def send() -> str:
        done = await sync.sync()
        return f"{done.uploaded} sent, {done.failed} failed." + (f" {done.detail}" if done.detail else "")

    async def free() -> str:
        done = await sync.cleanup(settings.keep_local_hours)
        return f"{done.deleted} deleted, {done.kept_unsynced} kept." + (f" {done.detail}" if done.detail else "")

    async def empty_bin() -> str:
        return f"{await outputs.empty_bin()} deleted."

    async def look() -> str:
        done = await models.look()
        return f"{len(done.found)} found, {len(done.gone)} gone, {len(done.refused)} refused."

    jobs = [
        ScheduledJob("retention", "Delete what is older or more than is kept", RETENTION_SECONDS, clean),
        ScheduledJob("outputs_sync", "Send new outputs to the S3 store", settings.sync_minutes * 60, send),
        ScheduledJob("outputs_cleanup", "Delete old local outputs that the S3 store has", CLEANUP_SECONDS, free),
        ScheduledJob("model_scan", "Find what was put straight into the buckets of models", MODEL_SCAN_SECONDS, look),
        ScheduledJob("outputs_bin", "Delete outputs that were put into the bin a day ago", CLEANUP_SECONDS, empty_bin),
    ]
    if settings.doctor_schedule != "off":
        jobs.append(ScheduledJob("doctor", "Examine every node", settings.doctor_schedule, examine))
    return jobs
