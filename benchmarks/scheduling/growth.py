"""How the time of one decision grows with the queue and the fleet: ``python -m benchmarks.scheduling.growth``.

The queue holds jobs of 20 models, the nodes are at work with a model each, and one after the other becomes free, gets what the rule
decides, and is at work again. Beside it 100,000 jobs on 100 nodes through ``fleet simulate``.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.scheduling.traces import MEAN_WORK, SWITCH_SECONDS, Traffic
from fleet_api.scheduling.smart import decide
from fleet_api.scheduling.types import Assignment, Skills, WaitingJob, Worker
from fleet_api.scheduling.waiting import WaitingQueue

QUEUED = (100, 10_000, 100_000)
WORKERS = (10, 100, 1_000)
MODELS = [f"m{number}" for number in range(20)]
SAMPLES = 50
KIND = "image_gen"
DAY = Traffic(100, 20, 0.8)
DAY_JOBS = 100_000
GOAL_SECONDS = 60.0


def decision(queued: int, workers: int) -> float:
    """Return the median milliseconds of a decision for one node that became free."""
    chance = random.Random(queued + workers)
    queue = WaitingQueue(began=0.0)
    for number in range(queued):
        queue.add(_job(number, chance), 0.0, SWITCH_SECONDS)
    skills = Skills(frozenset({KIND}), frozenset(MODELS))
    fleet = [
        Worker(str(number), skills, MODELS[number % len(MODELS)], idle=False, sort=1, switch=lambda _: SWITCH_SECONDS)
        for number in range(workers)
    ]
    for worker in fleet:
        worker.free_at = chance.expovariate(1 / MEAN_WORK)
    now, took = 0.0, []
    for number in range(SAMPLES):
        free = min(fleet, key=lambda worker: worker.free_at)
        now, free.idle, free.loading = max(now, free.free_at), True, False
        started = time.perf_counter()
        decisions = decide(queue, fleet, now)
        took.append(time.perf_counter() - started)
        for each in decisions:
            if isinstance(each, Assignment):
                queue.remove(each.job.id, started=now)
                queue.add(_job(queued + number, chance, now), now, SWITCH_SECONDS)
        if free.idle:  # nothing for it just now
            free.idle, free.free_at = False, now + MEAN_WORK
    return median(took) * 1000


def _job(number: int, chance: random.Random, now: float = 0.0) -> WaitingJob:
    return WaitingJob(str(number), KIND, chance.choice(MODELS), order=(True, number), since=now, work=chance.expovariate(1 / MEAN_WORK))


def whole_day() -> float:
    """Return the seconds that ``fleet simulate`` takes for 100,000 jobs on 100 nodes, start and reading of the trace included."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.csv"
        rows = (f"{each.at:.3f},{each.model},{each.seconds:.3f}\n" for each in DAY.trace(1, DAY_JOBS))
        path.write_text("arrival_s,model,seconds\n" + "".join(rows))
        started = time.perf_counter()
        words = [sys.executable, "-m", "fleet_api", "simulate", str(path), "--nodes", str(DAY.nodes), "--json"]
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - started


def report() -> dict[str, Any]:
    """Measure and print."""
    found = {str(queued): {str(workers): round(decision(queued, workers), 3) for workers in WORKERS} for queued in QUEUED}
    print("milliseconds a decision" + "".join(f"{workers:>10} nodes" for workers in WORKERS))
    for queued, row in found.items():
        print(f"{queued:>16} queued" + "".join(f"{value:>16.2f}" for value in row.values()))
    seconds = whole_day()
    print(f"fleet simulate, {DAY_JOBS} jobs, {DAY.name}: {seconds:.1f} s (goal {GOAL_SECONDS:g})")
    return {"decision_ms": found, "simulate_s": round(seconds, 1)}


if __name__ == "__main__":
    report()
