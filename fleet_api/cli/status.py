"""``fleet status``."""

from __future__ import annotations

from fleet_api.cli.common import Json, Url, calling, out, print_json

EXAMPLES = "Examples: fleet status; fleet status --json"


def status(url: Url = None, as_json: Json = False) -> None:
    """Show the fleet in figures."""
    with calling(url) as client:
        answer = client.status()
        address = client.url
    if as_json:
        print_json(answer)
        return
    nodes, jobs, vision = answer["nodes"], answer["jobs"], answer["vision"]
    out.print(f"Fleet Commander {answer['version']} at {address}: {answer['status']}")
    out.print(f"nodes   {nodes['online']} online, {nodes['offline']} offline; {vision['busy_nodes']} busy")
    counts = ", ".join(f"{jobs[state]} {state}" for state in ("queued", "processing", "completed", "failed", "cancelled"))
    out.print(f"jobs    {counts}")
    for model, where in vision["models_loaded"].items():
        out.print(f"loaded  {model} on {', '.join(where)}", markup=False)
