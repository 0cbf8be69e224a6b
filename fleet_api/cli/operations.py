"""``fleet operations``, ``fleet run``, ``fleet retire`` and ``fleet doctor``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleet_api.cli.common import Json, Url, calling, print_json, print_table, say
from fleet_api.cli.following import follow

EXAMPLES = (
    "Examples: fleet operations; fleet operations --state failed; fleet operations OPERATION_ID --follow; "
    "fleet operations OPERATION_ID --cancel; fleet operations OPERATION_ID --retry"
)
RETIRE_EXAMPLES = "Examples: fleet retire agx0 --check; fleet retire agx0"
DOCTOR_EXAMPLES = "Examples: fleet doctor agx0; fleet doctor --cluster vision --json"
RUN_EXAMPLES = "Examples: fleet run site agx0 agx1 --check; fleet run site --cluster vision"

Check = Annotated[bool, typer.Option("--check", help="A plan: show what would change, with differences, and change nothing")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show it until it ends")]
Cluster = Annotated[str | None, typer.Option("--cluster", help="Every node of this cluster")]
Nodes = Annotated[list[str] | None, typer.Argument(help="Nodes", metavar="NODE...", show_default=False)]


def operations(
    operation_id: Annotated[str | None, typer.Argument(metavar="OPERATION_ID", help="One operation", show_default=False)] = None,
    state: Annotated[str | None, typer.Option(help="Only those queued, running, succeeded, failed, cancelled or lost")] = None,
    kind: Annotated[str | None, typer.Option(help="Only those of this kind, such as onboard")] = None,
    limit: Annotated[int, typer.Option(help="Operations to show, 1 to 500")] = 20,
    follow_it: Annotated[bool, typer.Option("--follow", "-f", help="Show what it tells until it ends")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Ask it to end")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try it again where it did not succeed")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show operations: onboarding, retiring, and other work of the control plane."""
    if operation_id is None and (follow_it or cancel or retry):
        raise typer.BadParameter("name the operation; 'fleet operations' lists them.", param_hint="OPERATION_ID")
    with calling(url) as client:
        if operation_id is None:
            answer = client.operations(limit, kind, state)
        elif cancel:
            answer = client.cancel_operation(operation_id)
        elif retry:
            answer = client.retry_operation(operation_id)
        else:
            answer = client.operation(operation_id)
        if operation_id is not None and (follow_it or retry):
            follow(client, [answer["id"]], as_json)
            return
    if as_json:
        print_json(answer)
    elif operation_id is None:
        _table(answer)
    else:
        _one(answer)


def run(
    kind: Annotated[str, typer.Argument(help="A playbook for nodes: site, doctor, gpu_inference, gpu_inference_remove or retire")],
    nodes: Nodes = None, cluster: Cluster = None, check: Check = False, wait: Wait = True, url: Url = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Run a playbook on nodes."""
    start(kind, nodes, cluster, check, wait, url, as_json)


def retire(nodes: Nodes = None, check: Check = False, wait: Wait = True, url: Url = None, as_json: Json = False) -> None:
    """Take nodes out of the fleet and leave each machine as it was found."""
    start("retire", nodes, None, check, wait, url, as_json)


def doctor(nodes: Nodes = None, cluster: Cluster = None, wait: Wait = True, url: Url = None, as_json: Json = False) -> None:
    """Examine nodes: is all that was installed there, and does it work?"""
    start("doctor", nodes, cluster, False, wait, url, as_json)


def start(
    kind: str, nodes: list[str] | None, cluster: str | None, check: bool, wait: bool, url: str | None, as_json: bool,
    mode: str | None = None,
) -> None:  # fmt: skip
    """Start a playbook on nodes and, with ``wait``, show it until it ends."""
    with calling(url) as client:
        row = client.start_operation(kind, nodes or None, cluster, check, mode)
        if wait:
            follow(client, [row["id"]], as_json)
            return
    if as_json:
        print_json(row)
    else:
        say(f"{row['id']}: {row['title']}, {row['state']}")


def _table(answer: dict[str, Any]) -> None:
    rows = [
        [
            row["id"], row["title"] + (" (check)" if row["check"] else ""), row["state"], f"{row['progress']:.0f} %", row["step"] or "-",
            row["created_at"][:16].replace("T", " "), row["reason"] or "-",
        ]
        for row in answer["operations"]
    ]  # fmt: skip
    print_table(
        ["OPERATION", "WHAT", "STATE", "PROGRESS", "STEP", "CREATED", "REASON"], rows,
        "No operations yet. Onboard a machine: fleet join ADDRESS --credential NAME",
    )  # fmt: skip
    if answer["total"] > len(rows):
        say(f"{len(rows)} of {answer['total']}; --limit shows more.")


def _one(row: dict[str, Any]) -> None:
    for name in ("id", "title", "state", "step", "reason", "node_ids", "created_at", "started_at", "ended_at", "caller"):
        value = ", ".join(row[name]) if isinstance(row[name], list) else row[name]
        if value:
            say(f"{name.replace('_', ' '):12} {value}")
    say(f"{'progress':12} {row['progress']:.0f} %")
