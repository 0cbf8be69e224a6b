"""``fleet scan``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleet_api.cli.common import Json, Url, calling, print_json, print_table, say

EXAMPLES = "Examples: fleet scan; fleet scan 192.0.2.0/24 --refresh; fleet scan --thorough --json"


def scan(
    subnet: Annotated[str | None, typer.Argument(help="An IPv4 network, such as 192.0.2.0/24  [default: this machine's own]")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Scan anew, also where the last scan is younger than a minute")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Every port of every address; slower")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Find machines on the network."""
    with calling(url) as client:
        found = client.scan(subnet, refresh, thorough)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            each["ip"], each["hostname"] or "-", each["vendor"] or each["mac"] or "-", _jetson(each), each["node_id"] or "-",
            ", ".join(map(str, each["ports"])) or "-",
        ]
        for each in found["devices"]
    ]  # fmt: skip
    print_table(["IP", "NAME", "NETWORK CARD", "JETSON", "NODE", "PORTS"], rows, f"Nobody answers in {found['subnet']}.")
    say(f"{len(rows)} machines in {found['subnet']}, {found['seconds']:.1f} s{', from the last minute' if found['cached'] else ''}")


def _jetson(device: dict[str, Any]) -> str:
    if device["is_jetson"] is not None:
        return "yes" if device["is_jetson"] else "no"
    return "likely" if device["likely_jetson"] else "?"
