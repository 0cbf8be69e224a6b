"""``fleet jobs``."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_api.cli.common import Json, Url, calling, print_json, print_table, say

EXAMPLES = "Examples: fleet jobs; fleet jobs --status queued --limit 10; fleet jobs --cancel JOB_ID"


def jobs(
    status: Annotated[str | None, typer.Option(help="Only jobs in this state: queued, processing, completed, failed, cancelled")] = None,
    limit: Annotated[int, typer.Option(help="Jobs to show, 1 to 500")] = 20,
    cancel: Annotated[str | None, typer.Option("--cancel", help="Cancel this job instead", metavar="JOB_ID")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the newest jobs."""
    with calling(url) as client:
        answer = client.cancel(cancel) if cancel else client.jobs(status, limit)
    if as_json:
        print_json(answer)
        return
    if cancel:
        say(f"{answer['job_id']}: {answer['status']}")
        return
    rows = [
        [
            job["job_id"], job["status"], f"{job['progress']} %" if "progress" in job else f"place {job.get('queue_position', '-')}"
            if job["status"] == "queued" else "-", job.get("node_id") or "-", (job.get("created_at") or "")[:16].replace("T", " "),
            str(job["payload"].get("prompt", job["job_type"]))[:60],
        ]
        for job in answer["jobs"]
    ]  # fmt: skip
    print_table(
        ["JOB", "STATUS", "PROGRESS", "NODE", "CREATED", "WHAT"],
        rows,
        "No jobs yet. Make one: fleet generate 'a red circle on a blue background'",
    )
    if answer["total"] > len(rows):
        say(f"{len(rows)} of {answer['total']}; --limit shows more.")
