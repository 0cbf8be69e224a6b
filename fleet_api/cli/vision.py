"""``fleet vision``: which nodes make pictures."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from fleet_api.cli.common import Json, Url
from fleet_api.cli.operations import Check, Cluster, Nodes, Wait, start

INSTALL_EXAMPLES = "Examples: fleet vision install agx0 agx1; fleet vision install --cluster vision --mode container --check"
UNINSTALL_EXAMPLES = "Example: fleet vision uninstall agx0"


class Mode(StrEnum):
    """How the agent of a node runs."""

    NATIVE = "native"
    CONTAINER = "container"


ModeOption = Annotated[Mode | None, typer.Option(help="native, as it is by itself, or container: agents as containers of the swarm")]

app = typer.Typer(no_args_is_help=True, help="Engines of nodes: install them, take them away.", epilog=INSTALL_EXAMPLES)


@app.command("install", epilog=INSTALL_EXAMPLES)
def install(
    nodes: Nodes = None, cluster: Cluster = None, mode: ModeOption = None, check: Check = False, wait: Wait = True, url: Url = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Give onboarded nodes an engine, or bring it up to date: one node, then a quarter, then all; each makes a picture as the proof."""
    start("gpu_inference", nodes, cluster, check, wait, url, as_json, mode.value if mode else None)


@app.command("uninstall", epilog=UNINSTALL_EXAMPLES)
def uninstall(
    nodes: Nodes = None, cluster: Cluster = None, check: Check = False, wait: Wait = True, url: Url = None, as_json: Json = False
) -> None:
    """Take engines away: the agent stays, and takes no jobs."""
    start("gpu_inference_remove", nodes, cluster, check, wait, url, as_json)
