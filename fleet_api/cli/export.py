"""``fleet export``: nobody is locked in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet_api.cli.common import Json, print_json, say
from fleet_api.cli.local import Home, settings_of, with_database

EXAMPLES = "Examples: fleet export --to /srv/export; ansible-inventory -i /srv/export/inventory.yml --list"


def export(
    to: Annotated[Path, typer.Option("--to", help="A folder; it is made if it is not there, and files of an earlier export are replaced")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write the fleet as plain files: inventory.yml for Ansible, nodes.jsonl, and jobs.jsonl with every job and its attempts."""
    from fleet_api.backups.export import INVENTORY, JOBS, NODES
    from fleet_api.backups.export import export as write

    made = with_database(settings_of(home), lambda db: write(db, to))
    if as_json:
        print_json({"folder": str(to), "files": [INVENTORY, NODES, JOBS], **made})
        return
    say(f"{to}: {made['nodes']} nodes in {INVENTORY} and {NODES}, {made['jobs']} jobs in {JOBS}")
