"""``fleet status``."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet_api.cli.common import Json, Url, calling, out, plain, print_json, say
from fleet_api.client import FleetClient, FleetUnreachable

EXAMPLES = "Examples: fleet status; fleet status --watch; fleet status --json"

SECONDS = 1.0
RUNNING_SHOWN = 10


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show what changes; Ctrl-C ends it")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the fleet in figures."""
    with calling(url) as client:
        if watch and not as_json:
            _watch(client)
            return
        answer = client.status()
        address = client.url
    if as_json:
        print_json(answer)
        return
    for line in _lines(answer, address):
        say(line)


def _lines(answer: dict[str, Any], address: str) -> list[str]:
    nodes, jobs, vision = answer["nodes"], answer["jobs"], answer["vision"]
    counts = ", ".join(f"{jobs[state]} {state}" for state in ("queued", "processing", "completed", "failed", "cancelled"))
    return [
        f"Fleet Commander {answer['version']} at {address}: {answer['status']}",
        f"nodes   {nodes['online']} online, {nodes['offline']} offline; {vision['busy_nodes']} busy",
        f"jobs    {counts}",
        *(f"loaded  {model} on {', '.join(where)}" for model, where in vision["models_loaded"].items()),
        *([f"storage {storage['detail']}"] if (storage := answer.get("storage") or {}).get("status") == "away" else []),
    ]


def _watch(client: FleetClient) -> None:
    """Draw the fleet once a second; a control plane that is away is waited for."""
    with Live(console=out, auto_refresh=False, transient=not out.is_terminal) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                live.update(_page(client), refresh=True)
            except FleetUnreachable as error:
                live.update(Text(f"{plain(error)} Trying again."), refresh=True)
            time.sleep(SECONDS)


def _page(client: FleetClient) -> Group:
    head = Text("\n".join(plain(line) for line in _lines(client.status(), client.url)))
    nodes = _table("NODE", "STATUS", "CPU", "MEMORY", "GPU", "DISK", "TEMP")
    for node in client.nodes():
        heat = "-" if node["temperature"] is None else f"{node['temperature']:.0f} °C"
        figures = (f"{node[name]:.0f} %" for name in ("cpu", "memory", "gpu", "disk"))
        nodes.add_row(*(Text(plain(cell)) for cell in (node["id"], node["status"], *figures, heat)))
    jobs = _table("RUNNING", "PROGRESS", "NODE", "WHAT")
    for job in client.jobs("processing", RUNNING_SHOWN)["jobs"]:
        what = str(job["payload"].get("prompt", job["job_type"]))[:60]
        running = (job["job_id"], f"{job.get('progress') or 0} %", job.get("node_id") or "-", what)
        jobs.add_row(*(Text(plain(cell)) for cell in running))
    return Group(head, Text(), nodes, *((Text(), jobs) if jobs.row_count else ()))


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)
