"""``fleet engines``: engines of TensorRT."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail, print_json, print_table, say
from fleet_api.cli.following import follow
from fleet_api.cli.generate import loras_of
from fleet_api.cli.operations import Wait

EXAMPLES = (
    "Examples: fleet engines; fleet engines build agx0 sdxl-base; fleet engines build agx0 sdxl-base --lora ink:0.6; "
    "fleet engines remove 0123456789abcdef0123456789abcdef"
)
EMPTY = "No engines in the store yet. A node with TensorRT builds those of a model with 'fleet engines build NODE_ID MODEL'."

app = typer.Typer(
    help="Engines of TensorRT: built once for each kind of GPU, kept for the others.", epilog=EXAMPLES, invoke_without_command=True
)


@app.callback()
def engines(context: typer.Context, url: Url = None, as_json: Json = False) -> None:
    """Show the engines that the store keeps; have a node build those of a model; remove one."""
    if context.invoked_subcommand is not None:
        return
    with calling(url) as client:
        found = client.engines()
    if as_json:
        print_json(found)
        return
    said = ("model", "network", "architecture", "tensorrt", "precision")
    rows = [
        [*(each[name] for name in said), _words(each["loras"]), f"{each['size_bytes'] / 2**20:,.0f} MiB", each["node_id"], each["key"]]
        for each in found["engines"]
    ]
    print_table(["MODEL", "NETWORK", "GPU", "TENSORRT", "PRECISION", "LORAS", "SIZE", "BUILT ON", "KEY"], rows, EMPTY)


def _words(loras: list[dict[str, Any]]) -> str:
    """Return LoRAs as ``engines build`` takes them; one that the store has no more by the beginning of its file's SHA-256."""
    return " ".join(f"{each['name'] or each['sha256'][:8]}:{each['strength']:g}" for each in loras) or "-"


@app.command("build", epilog=EXAMPLES)
def build(
    node_id: Annotated[str, typer.Argument(help="The node", metavar="NODE_ID")],
    model: Annotated[str, typer.Argument(help="A model that the node has", metavar="MODEL")],
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:STRENGTH",
            help="With this LoRA in the weights, for engines that take none later; may be given again",
            show_default=False,
        ),
    ] = None,
    wait: Wait = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Have a node build the engines of a model; what a node of its kind built already it fetches. It takes no jobs while it builds."""
    with calling(url) as client:
        operation = client.build_engines(node_id, model, loras_of(lora or [], None))
        if wait:
            follow(client, [operation["id"]], as_json)
        elif as_json:
            print_json(operation)
        else:
            say(f"Begun: {operation['id']}. See 'fleet operations {operation['id']}'.")


@app.command("remove", epilog=EXAMPLES)
def remove(
    keys: Annotated[list[str], typer.Argument(help="Keys of engines, as 'fleet engines' shows them", metavar="KEY...")],
    url: Url = None,
) -> None:
    """Remove engines from the store; nodes that have them keep theirs."""
    if not keys:
        fail("Say which.", exit_codes.USAGE)
    with calling(url) as client:
        for key in keys:
            client.delete_engine(key)
            say(f"{key}: removed")
