"""``fleet nodes``."""

from __future__ import annotations

from fleet_api.cli.common import Json, Url, calling, print_json, print_table

EXAMPLES = "Examples: fleet nodes; fleet nodes --json"


def nodes(url: Url = None, as_json: Json = False) -> None:
    """Show every node with its figures."""
    with calling(url) as client:
        found = client.nodes()
    if as_json:
        print_json(found)
        return
    rows = [
        [
            node["id"], node["status"], node["ip"], node["cluster"] or "-", f"{node['cpu']:.0f} %", f"{node['memory']:.0f} %",
            f"{node['gpu']:.0f} %", f"{node['disk']:.0f} %", "-" if node["temperature"] is None else f"{node['temperature']:.0f} °C",
            (node["last_seen"] or "never")[11:19],
        ]
        for node in found
    ]  # fmt: skip
    print_table(
        ["NODE", "STATUS", "IP", "CLUSTER", "CPU", "MEMORY", "GPU", "DISK", "TEMP", "LAST SEEN"], rows,
        "No nodes yet. 'fleet up' starts an agent on this machine.",
    )  # fmt: skip
