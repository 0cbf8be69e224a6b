"""``fleet join``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail, print_json, say
from fleet_api.cli.following import follow

EXAMPLES = (
    "Examples: fleet join 192.0.2.10 --credential jetsons; fleet join 192.0.2.10 192.0.2.11 --credential jetsons --cluster vision; "
    "fleet join --all --credential jetsons"
)


def only_credential(found: list[dict[str, Any]]) -> str:
    """Return the id of the only credential there is; ends the command where there is none, or a choice."""
    if not found:
        fail("The vault is empty; put a credential into it: fleet vault add NAME --username USER", exit_codes.USAGE)
    if len(found) > 1:
        names = ", ".join(sorted(each["name"] for each in found))
        fail(f"Which credential? Name it with --credential: {names}", exit_codes.USAGE)
    return str(found[0]["id"])


def join(
    addresses: Annotated[list[str] | None, typer.Argument(metavar="ADDRESS...", help="IP addresses", show_default=False)] = None,
    credential: Annotated[str | None, typer.Option("--credential", "-c", help="Name or id of a credential in the vault")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Cluster that the nodes go to")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the node  [default: its host name]")] = None,
    port: Annotated[int, typer.Option("--port", help="Port of SSH")] = 22,
    every: Annotated[bool, typer.Option("--all", help="Every machine that the last scan found")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show it until it ends")] = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make nodes of machines: install, configure and enrol them over SSH."""
    if bool(addresses) == every:
        raise typer.BadParameter("name machines by their IP addresses, or give --all.", param_hint="ADDRESS...")
    if name and len(addresses or []) != 1:
        raise typer.BadParameter("a name goes to one machine alone.", param_hint="--name")
    with calling(url) as client:
        credential_id = credential or only_credential(client.credentials())
        if every:
            started = [client.join_all(credential_id, cluster)]
        else:
            started = [client.join(each, credential_id, cluster=cluster, ssh_port=port, node_id=name) for each in addresses or []]
        if wait:
            follow(client, [each["operation_id"] for each in started], as_json)
            return
    if as_json:
        print_json(started[0] if len(started) == 1 else started)
    else:
        for each in started:
            say(f"{each['operation_id']}: {each['message']}, {each['status']}")
