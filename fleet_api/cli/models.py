"""``fleet models``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleet_api.cli import model_import, model_store
from fleet_api.cli.common import Json, Url, calling, print_json, print_table, say
from fleet_api.cli.reaching import reaching
from fleet_api.client import FleetClient

EXAMPLES = "Examples: fleet models; fleet models --load agx0 fleet-shapes; fleet models upload night.safetensors --lora --base sdxl-base"
LOAD_SECONDS = 30.0
SAID = {
    "there": "it has that",
    "unknown": "neither a node nor the store has the default model",
    "loaded": "it was loaded already",
    "loading": "it is loaded now",
    "waiting": "it is loaded after the node's job",
}


app = typer.Typer(help="The models of the fleet, and the model store.", epilog=EXAMPLES, invoke_without_command=True)


@app.callback()
def models(
    context: typer.Context,
    load: Annotated[
        tuple[str, str] | None, typer.Option("--load", help="Have this node load this model instead", metavar="NODE_ID MODEL")
    ] = None,
    bring_default: Annotated[
        str | None,
        typer.Option("--bring-default", help="Have this node fetch and load the default model if it lacks it", metavar="NODE_ID"),
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the models of the fleet and the nodes that have them loaded; upload, delete and find models of the store."""
    if context.invoked_subcommand is not None:
        return
    telling = load or bring_default
    with reaching(url, "fleet models --load", LOAD_SECONDS) if telling else calling(url) as client:
        switched = _brought(client, bring_default) if bring_default else client.load_model(*load) if load else None
        found = [] if telling else client.models()
    if as_json:
        print_json(switched or found)
        return
    if switched is not None:
        say(f"{switched['node_id']}: {switched['model']}: {SAID.get(switched['status'], switched['status'])}")
        return
    rows = [
        [model["name"], model["type"], model["size"], "yes" if model["default"] else "", ", ".join(model["loaded_on"]) or "-"]
        for model in found
    ]
    print_table(["MODEL", "TYPE", "SIZE", "DEFAULT", "LOADED ON"], rows, "No models yet: no agent is enrolled. Start one with 'fleet up'.")


def _brought(client: FleetClient, node_id: str) -> dict[str, Any]:
    """Have a node load the default model if it lacks it: ``there`` where it does not, ``unknown`` where neither node nor store has it."""
    model = next((each for each in client.models() if each["default"]), None)
    if model is None or node_id in model["on_nodes"]:
        return {"node_id": node_id, "model": model["name"] if model else "", "status": "there" if model else "unknown"}
    return dict(client.load_model(node_id, str(model["name"])))


app.command("upload", epilog=model_store.UPLOAD_EXAMPLES)(model_store.upload)
app.command("import", epilog=model_import.EXAMPLES)(model_import.import_)
app.command("delete", epilog=model_store.DELETE_EXAMPLES)(model_store.delete)
app.command("list", epilog=model_store.LIST_EXAMPLES)(model_store.show)
app.command("scan", epilog=model_store.SCAN_EXAMPLES)(model_store.scan)
