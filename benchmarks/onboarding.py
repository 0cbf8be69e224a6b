"""Onboarding 1, 3 and 6 fresh lab nodes: seconds, and the controller's processor time for each node, which should stay flat.

Wants a Docker Engine. The nodes share this machine's cores, so the seconds say little of boards that have their own.
"""

from __future__ import annotations

import time
from typing import Any

import psutil

from benchmarks.lab_fleet import NoEngine, lab_fleet

SIZES = (1, 3, 6)


def report() -> dict[str, Any]:
    """Measure and print; returns nothing where no engine answers."""
    try:
        found = {size: _measure(size) for size in SIZES}
    except NoEngine as error:
        print(f"onboarding: left out: {error}")
        return {}
    print(f"{'onboarding lab nodes':24} {'seconds':>8} {'controller CPU s a node':>24} {'beside':>8}")
    base = found[SIZES[0]]["cpu_each"]
    for size, figures in found.items():
        print(f"{size:<24} {figures['seconds']:8.1f} {figures['cpu_each']:24.2f} {figures['cpu_each'] / base:8.2f}")
    return {str(size): figures for size, figures in found.items()}


def _measure(size: int) -> dict[str, float]:
    with lab_fleet(size) as fleet:
        before = _cpu(fleet.pid)
        started = time.perf_counter()
        for operation in [fleet.join(node) for node in fleet.nodes]:
            fleet.until_ended(operation)
        took = time.perf_counter() - started
        return {"seconds": took, "cpu_each": (_cpu(fleet.pid) - before) / size}


def _cpu(pid: int) -> float:
    """Return the processor seconds of the control plane and of every child that it has seen out."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


if __name__ == "__main__":
    report()
