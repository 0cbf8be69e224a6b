"""``fleet jobs``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail, print_json, print_table, say

EXAMPLES = (
    "Examples: fleet jobs; fleet jobs --status queued --limit 10; fleet jobs --cancel JOB_ID; fleet jobs --follow JOB_ID; "
    "fleet jobs --deliveries JOB_ID; fleet jobs --deliveries JOB_ID --replay DELIVERY_ID; fleet jobs --explain JOB_ID"
)


def jobs(
    status: Annotated[str | None, typer.Option(help="Only jobs in this state: queued, processing, completed, failed, cancelled")] = None,
    limit: Annotated[int, typer.Option(help="Jobs to show, 1 to 500")] = 20,
    cancel: Annotated[str | None, typer.Option("--cancel", help="Cancel this job instead", metavar="JOB_ID")] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", help="Say why this job waits, or why it went to its node, instead", metavar="JOB_ID")
    ] = None,
    deliveries: Annotated[
        str | None, typer.Option("--deliveries", help="Show what became of this job's callbacks instead", metavar="JOB_ID")
    ] = None,
    replay: Annotated[str | None, typer.Option("--replay", help="With --deliveries: send this one again", metavar="DELIVERY_ID")] = None,
    follow: Annotated[str | None, typer.Option("--follow", help="Show this job as it goes, until it has ended", metavar="JOB_ID")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the newest jobs."""
    if replay and not deliveries:
        fail("--replay: say of which job, with --deliveries JOB_ID.", exit_codes.USAGE)
    if sum(each is not None for each in (cancel, deliveries, explain, follow)) > 1:
        fail("--cancel, --deliveries, --explain and --follow: give one of them.", exit_codes.USAGE)
    if explain:
        _explain(explain, url, as_json)
        return
    if deliveries:
        _deliveries(deliveries, replay, min(limit, 500), url, as_json)
        return
    if follow:
        _follow(follow, url, as_json)
        return
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


def _explain(job_id: str, url: str | None, as_json: bool) -> None:
    with calling(url) as client:
        job = client.explain(job_id)
    if as_json:
        print_json(job)
        return
    say(f"{job['job_id']}: {job['status']}")
    say(job["explanation"])
    for each in job["history"]:
        say(f"  attempt {each['attempt']} on {each['node_id']}: {each.get('outcome') or 'at work'}{_because(each.get('error'))}")


def _because(error: str | None) -> str:
    return f", {error}" if error else ""


def _follow(job_id: str, url: str | None, as_json: bool) -> None:
    shown, job = "", {}
    with calling(url) as client:
        for job in client.follow(job_id):
            where = f" on {job['node_id']}" if job.get("node_id") else ""
            done = f", {job['progress']} %" if job["status"] == "processing" and "progress" in job else ""
            if not as_json and shown != (shown := f"{job['status']}{where}{done}"):
                say(shown)
    if as_json:
        print_json(job)
    if job["status"] != "completed":
        fail(f"Job {job_id} is {job['status']}: {job.get('error') or 'it was cancelled.'}", exit_codes.FAILED)


def _deliveries(job_id: str, replay: str | None, limit: int, url: str | None, as_json: bool) -> None:
    with calling(url) as client:
        answer = client.replay(job_id, replay) if replay else client.deliveries(job_id, limit)
    if as_json:
        print_json(answer)
        return
    if replay:
        say(f"{answer['id']}: {answer['status']}, it is sent again now")
        return
    rows = [
        [
            each["id"], each["event"], each["status"], str(len(each["attempts"])), _short(each.get("next_attempt_at")),
            _last(each["attempts"]), each["url"],
        ]
        for each in answer["deliveries"]
    ]  # fmt: skip
    print_table(
        ["DELIVERY", "EVENT", "STATUS", "ATTEMPTS", "NEXT", "LAST", "TO"], rows,
        "No deliveries: the job has no callback_url, or has not ended.",
    )  # fmt: skip


def _last(attempts: list[dict[str, Any]]) -> str:
    if not attempts:
        return "-"
    return str(attempts[-1].get("error") or attempts[-1].get("status_code"))


def _short(at: str | None) -> str:
    return at[:16].replace("T", " ") if at else "-"
