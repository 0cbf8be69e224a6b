"""``fleet audit``."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_api.cli.common import Json, Url, calling, print_json, print_table

EXAMPLES = "Examples: fleet audit; fleet audit --limit 200 --json"


def audit(
    limit: Annotated[int, typer.Option(min=1, max=500, help="Entries to show")] = 20,
    caller: Annotated[str | None, typer.Option("--caller", help="Only this key's id, or local")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show who changed what, newest first."""
    with calling(url) as client:
        found = client.audit(limit, caller_id=caller)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            each["at"][:19].replace("T", " "),
            each["caller_name"] or each["caller_kind"],
            each["address"],
            str(each["status"]),
            each["row"],
            each["path"],
        ]
        for each in found["entries"]
    ]  # fmt: skip
    print_table(["WHEN (UTC)", "WHO", "FROM", "RESULT", "OPERATION", "PATH"], rows, "Nothing was changed yet.")
