"""``fleet exec``."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, err, out, plain, print_json

EXAMPLES = (
    "Examples: fleet exec agx0 -- uptime; fleet exec agx0 agx1 -- df -h /; fleet exec --cluster vision --become -- 'journalctl -n 5 | tail'"
)
WORDS = "fleet.words"


class AfterDashes(TyperCommand):
    """Takes what comes after ``--`` as the command for the nodes, whatever it looks like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the words after the dashes from being read as options or nodes."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[WORDS] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)


def execute(
    context: typer.Context,
    nodes: Annotated[list[str] | None, typer.Argument(metavar="NODE... -- COMMAND", help="Where to run it", show_default=False)] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="On every node of a cluster")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds that it may run on each node")] = 60,
    become: Annotated[bool, typer.Option("--become", "-b", help="As root, by sudo")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Run a command on nodes over SSH, on all of them at once. One word is a line for the shell; several are taken as they are."""
    words = context.meta.get(WORDS, [])
    if not words:
        raise typer.BadParameter("write the command after two dashes: fleet exec NODE -- COMMAND", param_hint="COMMAND")
    if bool(nodes) == bool(cluster):
        raise typer.BadParameter("name nodes, or give --cluster.", param_hint="NODE...")
    command = words[0] if len(words) == 1 else shlex.join(words)
    failed, found = 0, []
    with calling(url) as client:
        for outcome in client.run_commands(command, nodes or None, cluster, timeout, become):
            failed += bool(outcome["error"]) or outcome["exit_status"] != 0
            if as_json:
                found.append(outcome)
            else:
                _show(outcome, alone=len(nodes or []) == 1)
    if as_json:
        print_json(sorted(found, key=lambda outcome: str(outcome["node_id"])))
    raise typer.Exit(exit_codes.FAILED if failed else exit_codes.OK)


def _show(outcome: dict[str, Any], alone: bool) -> None:
    head = "" if alone else f"{outcome['node_id']}: "
    for stream, console in (("stdout", out), ("stderr", err)):
        for line in outcome[stream].splitlines():
            console.print(plain(head) + plain(line.replace("\t", "    ")), markup=False, soft_wrap=True)
    sys.stdout.flush()
    for word in outcome["truncated"]:
        err.print(plain(f"{head}fleet: {word} is longer; this is its first MiB"), markup=False, soft_wrap=True)
    if outcome["error"]:
        err.print(plain(f"{head}fleet: {outcome['error']}"), markup=False, soft_wrap=True)
    elif outcome["exit_status"]:
        how = f"ended by {outcome['signal']}" if outcome["signal"] else f"exit status {outcome['exit_status']}"
        err.print(plain(f"{head}fleet: {how}"), markup=False, soft_wrap=True)
    if outcome["note"]:
        err.print(plain(f"{head}fleet: {outcome['note']}"), markup=False, soft_wrap=True)
