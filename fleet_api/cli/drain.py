"""``fleet drain``: a node is given no more jobs, and has ended those it had. The playbook 'gpu_inference' calls it before a change."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, fail, print_json, say
from fleet_api.cli.reaching import reaching
from fleet_api.client import NOT_FOUND, FleetClient, FleetClientError

EXAMPLES = "Examples: fleet drain agx0; fleet drain agx0 --seconds 3600; fleet drain agx0 --back"
MAINTENANCE, DRAINED = "maintenance", "drained"
"""The label of nodes that get no jobs, and its value where this command set it: another one is a person's, and stays."""

LOOK_SECONDS = 0.5


def drain(
    node_id: Annotated[str, typer.Argument(help="The node", metavar="NODE_ID")],
    seconds: Annotated[float, typer.Option(min=0, max=86_400, help="How long its jobs may take")] = 600,
    back: Annotated[bool, typer.Option("--back", help="Give it jobs again instead, where it was drained by this")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Give a node no more jobs, and wait until it has ended those it has.

    On the control plane's own machine no key is needed.
    """
    with reaching(url, "fleet drain", seconds) as client:
        found = _back(client, node_id) if back else _drain(client, node_id, seconds)
    if as_json:
        print_json(found)
    elif found["status"] == "unknown":
        say(f"{node_id}: the control plane knows no such node, and so gives it nothing")
    else:
        say(f"{node_id}: {'it is given jobs again' if back else 'it has no job, and is given none'}")


def _drain(client: FleetClient, node_id: str, seconds: float) -> dict[str, Any]:
    """Return what was done; ends with a sentence, and the node as it was, where its jobs take longer than ``seconds``."""
    found = _labels(client, node_id)
    if found is None:
        return {"node_id": node_id, "status": "unknown", "changed": False}
    ours = not found.get(MAINTENANCE)
    if ours:
        client.change_node(node_id, labels={**found, MAINTENANCE: DRAINED})
    deadline = time.monotonic() + seconds
    while at_work := client.at_work(node_id):
        if time.monotonic() > deadline:
            if ours:
                _back(client, node_id)
            sentence = f"{node_id} still works on job {at_work} after {seconds:g} s; wait for it, cancel it, or give it more --seconds."
            fail(sentence, exit_codes.FAILED)
        time.sleep(LOOK_SECONDS)
    return {"node_id": node_id, "status": DRAINED, "changed": ours}


def _back(client: FleetClient, node_id: str) -> dict[str, Any]:
    found = _labels(client, node_id)
    if found is None:
        return {"node_id": node_id, "status": "unknown", "changed": False}
    ours = found.get(MAINTENANCE) == DRAINED
    if ours:
        client.change_node(node_id, labels={name: value for name, value in found.items() if name != MAINTENANCE})
    return {"node_id": node_id, "status": "working" if ours or not found.get(MAINTENANCE) else MAINTENANCE, "changed": ours}


def _labels(client: FleetClient, node_id: str) -> dict[str, Any] | None:
    try:
        return dict(client.node(node_id)["labels"])
    except FleetClientError as error:
        if error.status == NOT_FOUND:
            return None
        raise
