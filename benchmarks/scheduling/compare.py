"""The product's rule beside first come, first served and four peers' rules: ``python -m benchmarks.scheduling.compare``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean, geometric_mean
from typing import Any

from benchmarks.scheduling.ai_horde import AiHorde
from benchmarks.scheduling.invokeai import InvokeAi
from benchmarks.scheduling.localai import LocalAi
from benchmarks.scheduling.swarmui import SwarmUi
from benchmarks.scheduling.traces import JOBS, SEEDS, SWITCH_SECONDS, TRACES, WIDER, Traffic
from fleet_api.scheduling.simulation.events import Policy, run
from fleet_api.scheduling.simulation.policies import Fifo, Smart
from fleet_api.scheduling.simulation.report import latency

OURS = "smart"
PLAIN = "fifo"
PEERS = ("SwarmUI", "AI-Horde", "InvokeAI", "LocalAI")
RULES: Mapping[str, Callable[[], Policy]] = {
    OURS: Smart,
    PLAIN: Fifo,
    "SwarmUI": SwarmUi,
    "AI-Horde": AiHorde,
    "InvokeAI": InvokeAi,
    "LocalAI": LocalAi,
}
GOALS = {"mean_s": 0.45, "p99_s": 0.35}
Figures = dict[str, float]
Job = tuple[Traffic, str, int, float, int]


def one(job: Job) -> Figures:
    """Run one rule on one seed of a trace; return mean and 99th percentile of the latency, and of the work alone, in seconds."""
    load, rule, seed, switch, jobs = job
    trace = load.trace(seed, jobs)
    done = run(trace, [1.0] * load.nodes, switch, RULES[rule]())
    figures = latency([each.ended - each.at for each in done.jobs])
    work = latency([each.seconds for each in trace])
    return {"mean_s": figures.mean_s, "p99_s": figures.p99_s, "max_s": figures.max_s, "switches": done.switches, "work_p99_s": work.p99_s}


def compare(
    loads: Iterable[Traffic],
    rules: Sequence[str] = tuple(RULES),
    switch: float = SWITCH_SECONDS,
    jobs: int = JOBS,
    seeds: Sequence[int] = SEEDS,
) -> dict[str, dict[str, Figures]]:
    """Return the figures by trace and rule, each the mean over the seeds. Uses every core."""
    loads = list(loads)
    wanted: list[Job] = [(load, rule, seed, switch, jobs) for load in loads for rule in rules for seed in seeds]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        every = dict(zip(wanted, pool.map(one, wanted), strict=True))
    found: dict[str, dict[str, Figures]] = {}
    for load in loads:
        for rule in rules:
            runs = [every[load, rule, seed, switch, jobs] for seed in seeds]
            found.setdefault(load.name, {})[rule] = {name: round(fmean(each[name] for each in runs), 3) for name in runs[0]}
    return found


def beside_best(row: Mapping[str, Figures], name: str) -> dict[str, Any]:
    """Return the peer that is best in one figure of a trace, and what share of its figure ours is."""
    best = min(PEERS, key=lambda peer: row[peer][name])
    return {"best_peer": best, "best_s": row[best][name], "ratio": round(row[OURS][name] / row[best][name], 3)}


def summary(table: Mapping[str, Mapping[str, Figures]], free: Mapping[str, Mapping[str, Figures]]) -> dict[str, Any]:
    """Return the ratios by trace and their geometric means, and beside which p99 no rule could be expected to get.

    ``work`` is the p99 of the work alone, as if no job ever waited; ``free`` that of first come, first served on the same trace with
    switches that cost nothing, each as a share of the best peer's p99.
    """
    ratios: dict[str, Any] = {}
    for trace, row in table.items():
        ratios[trace] = {name: beside_best(row, name) for name in GOALS}
        best = ratios[trace]["p99_s"]["best_s"]
        ratios[trace]["floor"] = {
            "work": round(row[OURS]["work_p99_s"] / best, 3),
            "free": round(free[trace][PLAIN]["p99_s"] / best, 3),
        }
    means = {name: round(geometric_mean(each[name]["ratio"] for each in ratios.values()), 3) for name in GOALS}
    floors = {name: round(geometric_mean(each["floor"][name] for each in ratios.values()), 3) for name in ("work", "free")}
    return {"traces": ratios, "geometric_means": means, "p99_floors": floors}


def report(jobs: int = JOBS, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Measure and print."""
    table, wider = compare(TRACES, jobs=jobs, seeds=seeds), compare(WIDER, jobs=jobs, seeds=seeds)
    free = compare((*TRACES, *WIDER), (OURS, PLAIN), switch=0.0, jobs=jobs, seeds=seeds)
    found: dict[str, Any] = {
        "jobs": jobs,
        "seeds": list(seeds),
        "table": table,
        "summary": summary(table, free),
        "wider": wider,
        "wider_summary": summary(wider, free),
        "no_switch_cost": {trace: round(row[OURS]["mean_s"] / row[PLAIN]["mean_s"], 4) for trace, row in free.items()},
    }
    print(f"seconds from arrival to end, mean / p99; {jobs} jobs, {len(seeds)} seeds, a switch takes {SWITCH_SECONDS:g} s")
    _print(table, found["summary"])
    print("goals:", ", ".join(f"{name} {goal}" for name, goal in GOALS.items()))
    floors = found["summary"]["p99_floors"]
    print(
        f"p99 of the work alone: {floors['work']:.2f} of the best peer's p99; of fifo where switches cost nothing: {floors['free']:.2f}\n"
    )
    print("wider loads")
    _print(wider, found["wider_summary"])
    values = found["no_switch_cost"].values()
    print(f"\nwhere switches cost nothing, mean beside fifo's: {min(values):.3f} to {max(values):.3f} (goal 0.98 to 1.02)")
    return found


def _print(table: Mapping[str, Mapping[str, Figures]], found: Mapping[str, Any]) -> None:
    heads = "".join(f"{head:>7}" for head in ("mean", "p99", "work", "free"))
    print(f"{'':36}" + "".join(f"{rule:>15}" for rule in RULES) + heads)
    for trace, row in table.items():
        cells = "".join(f"{row[rule]['mean_s']:>8.0f} /{row[rule]['p99_s']:>5.0f}" for rule in RULES)
        each = found["traces"][trace]
        ratios = (each["mean_s"]["ratio"], each["p99_s"]["ratio"], each["floor"]["work"], each["floor"]["free"])
        print(f"{trace:36}{cells}" + "".join(f"{ratio:>7.2f}" for ratio in ratios))
    print("beside the best peer:", ", ".join(f"{name} {mean:.2f}" for name, mean in found["geometric_means"].items()))


if __name__ == "__main__":
    report()
