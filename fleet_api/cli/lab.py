"""``fleet lab``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fleet_api.cli.common import Json, err, plain, print_json, print_table, say
from fleet_api.cli.local import explained

if TYPE_CHECKING:
    from fleet_api.lab.nodes import LabNode

app = typer.Typer(no_args_is_help=True, help="Virtual nodes on this machine, for who has no Jetsons at hand. Needs a Docker Engine.")

Name = Annotated[str, typer.Option("--name", help="Which lab")]


@app.command("up", epilog="Examples: fleet lab up; fleet lab up --nodes 5; fleet lab up --name orin --nodes 1 --jetson r36.4.3")
def up(
    nodes: Annotated[int, typer.Option("--nodes", help="How many nodes it shall have; more than it has adds some")] = 3,
    jetson: Annotated[
        str, typer.Option("--jetson", help="Answer as a Jetson with this L4T release, such as r35.4.1  [default: none]")
    ] = "",
    docker: Annotated[bool, typer.Option("--docker/--no-docker", help="With a Docker Engine on each node from the start")] = False,
    name: Name = "fleet-lab",
    as_json: Json = False,
) -> None:
    """Start a lab: nodes with systemd and sshd at addresses of their own, reached from this machine alone.

    The first start makes the nodes' image, which takes a few minutes.
    """
    from fleet_api.lab import service  # here, as most commands start sooner without the engine's client

    with explained():
        _show(service.up(name, nodes, jetson, docker, lambda text: err.print(plain(text), markup=False)), as_json)


@app.command("status", epilog="Examples: fleet lab status; fleet lab status --json")
def status(name: Name = "fleet-lab", as_json: Json = False) -> None:
    """Show a lab's nodes, and how to reach them."""
    from fleet_api.lab import service

    with explained():
        _show(service.status(name), as_json)


@app.command("down", epilog="Example: fleet lab down")
def down(name: Name = "fleet-lab", as_json: Json = False) -> None:
    """Remove a lab and all that is on its nodes. The image stays."""
    from fleet_api.lab import service

    with explained():
        count = service.down(name)
    if as_json:
        print_json({"name": name, "removed": count})
    else:
        say(f"{name}: {count} nodes removed")


def _show(found: list[LabNode], as_json: bool) -> None:
    if as_json:
        print_json([node.as_json() for node in found])
        return
    rows = [[node.name, node.state, node.ip, node.user, node.password, node.jetson or "-", "yes" if node.engine else "-"] for node in found]
    print_table(["NODE", "STATE", "IP", "USER", "PASSWORD", "L4T", "DOCKER"], rows, "No nodes.")
