"""``fleet schedule``."""

from __future__ import annotations

from fleet_api.cli.common import Json, Url, calling, print_json, print_table

EXAMPLES = "Examples: fleet schedule; fleet schedule --json"


def schedule(url: Url = None, as_json: Json = False) -> None:
    """Show what the control plane does by the clock."""
    with calling(url) as client:
        found = client.schedule()
    if as_json:
        print_json(found)
        return
    rows = [
        [each["name"], each["when"], (each["next_run"] or "-")[:19], (each["last_run"] or "never")[:19], each["outcome"] or "-"]
        for each in found
    ]
    print_table(["JOB", "WHEN", "NEXT RUN", "LAST RUN", "OUTCOME"], rows, "Nothing is scheduled.")
