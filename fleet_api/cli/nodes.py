"""``fleet nodes``."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_api.cli.common import Json, Url, calling, print_json, print_table, say

EXAMPLES = (
    "Examples: fleet nodes; fleet nodes --json; fleet nodes --maintenance agx0; fleet nodes --working agx0; fleet nodes --remove NODE_ID; "
    "fleet nodes --accept-host-key NODE_ID SHA256:..."
)


def nodes(
    remove: Annotated[str | None, typer.Option("--remove", help="Retire this node instead", metavar="NODE_ID")] = None,
    accept_host_key: Annotated[
        tuple[str, str] | None,
        typer.Option("--accept-host-key", help="Trust the SSH host key that this node showed last instead", metavar="NODE_ID FINGERPRINT"),
    ] = None,
    maintenance: Annotated[str | None, typer.Option("--maintenance", help="Give this node no more jobs", metavar="NODE_ID")] = None,
    working: Annotated[str | None, typer.Option("--working", help="Give this node jobs again", metavar="NODE_ID")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show every node with its figures."""
    if maintenance or working:
        _maintain(url, maintenance or working or "", bool(maintenance), as_json)
        return
    if accept_host_key:
        _accept(url, *accept_host_key, as_json)
        return
    with calling(url) as client:
        if remove:
            client.remove_node(remove)
        found = [] if remove else client.nodes()
    if remove:
        if as_json:
            print_json({"id": remove, "removed": True})
        else:
            say(f"{remove}: removed")
        return
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


def _maintain(url: str | None, node_id: str, on: bool, as_json: bool) -> None:
    with calling(url) as client:
        node = client.maintenance(node_id, on)
    if as_json:
        print_json(node)
    else:
        say(f"{node_id}: {'it is given no more jobs; what it does, it ends' if on else 'it is given jobs again'}")


def _accept(url: str | None, node_id: str, fingerprint: str, as_json: bool) -> None:
    with calling(url) as client:
        pinned = client.accept_host_key(node_id, fingerprint)
    if as_json:
        print_json(pinned)
    else:
        say(f"{node_id}: the host key {fingerprint} is pinned")
