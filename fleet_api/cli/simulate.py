"""``fleet simulate``: what the scheduler would do with a trace, without a fleet and without the control plane."""

from __future__ import annotations

from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet_api.cli.common import Json, print_json, print_table, say
from fleet_api.scheduling.simulation.events import run
from fleet_api.scheduling.simulation.gantt import gantt
from fleet_api.scheduling.simulation.policies import POLICIES
from fleet_api.scheduling.simulation.report import report
from fleet_api.scheduling.simulation.trace import BadTrace, read_trace

EXAMPLES = (
    "Examples: fleet simulate day.csv --nodes 10; fleet simulate day.csv --nodes 3 --speeds 1,1,0.5 --policy fifo --json; "
    "fleet simulate day.csv --nodes 4 --plot day.svg. The trace's first line is arrival_s,model,seconds[,priority]."
)

MOST_NODES = 10_000
COLUMNS = ("jobs", "mean_s", "p50_s", "p95_s", "p99_s", "max_s")


class PolicyName(StrEnum):
    """Rules that can be tried."""

    SMART = "smart"
    FIFO = "fifo"


def simulate(
    trace: Annotated[Path, typer.Argument(help="A CSV of jobs", exists=True, dir_okay=False, readable=True)],
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=MOST_NODES, help="How many nodes")],
    speeds: Annotated[str | None, typer.Option("--speeds", help="One speed a node, separated by commas  [default: 1 each]")] = None,
    switch_seconds: Annotated[float, typer.Option("--switch-seconds", min=0.0, help="Seconds to load a model")] = 30.0,
    policy: Annotated[PolicyName, typer.Option("--policy", help="The product's rule, or first come, first served")] = PolicyName.SMART,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw what each node does, as SVG", dir_okay=False)] = None,
    as_json: Json = False,
) -> None:
    """Run the scheduler on a trace of jobs and print the latencies."""
    if not isfinite(switch_seconds):
        raise typer.BadParameter("must be a finite number of seconds.", param_hint="--switch-seconds")
    each = _speeds(speeds, nodes)
    try:
        with trace.open(encoding="utf-8-sig", newline="") as lines:
            arrivals = read_trace(lines)
    except (BadTrace, UnicodeDecodeError) as error:
        raise typer.BadParameter(str(error) if isinstance(error, BadTrace) else "is not UTF-8 text.", param_hint="TRACE") from None
    result = run(arrivals, each, switch_seconds, POLICIES[policy](), bars=plot is not None)
    if plot is not None:
        try:
            plot.write_text(gantt(result), encoding="utf-8")
        except OSError as error:
            raise typer.BadParameter(f"cannot be written: {error.strerror}.", param_hint="--plot") from None
    figures = {"policy": str(policy), "nodes": nodes, "switch_seconds": switch_seconds, **report(result)}
    if as_json:
        print_json(figures)
        return
    _print(figures)
    if plot is not None:
        say(f"The picture is {plot}.")


def _speeds(text: str | None, nodes: int) -> list[float]:
    if text is None:
        return [1.0] * nodes
    try:
        speeds = [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"must be numbers separated by commas, not {text!r}.", param_hint="--speeds") from None
    if not all(isfinite(speed) and speed > 0 for speed in speeds):
        raise typer.BadParameter("must each be more than 0.", param_hint="--speeds")
    if len(speeds) != nodes:
        raise typer.BadParameter(f"names {len(speeds)} speeds for {nodes} nodes.", param_hint="--speeds")
    return speeds


def _print(figures: dict[str, Any]) -> None:
    rows = [["all", *(f"{figures[column]:g}" for column in COLUMNS)]]
    if len(figures["priorities"]) > 1:
        rows += [[priority, *(f"{each[column]:g}" for column in COLUMNS)] for priority, each in figures["priorities"].items()]
    print_table(["PRIORITY", "JOBS", "MEAN S", "P50 S", "P95 S", "P99 S", "MAX S"], rows, "No job.")
    say(f"{figures['switches']} switches, {figures['makespan_s']:g} s from the first second to the last job's end")
