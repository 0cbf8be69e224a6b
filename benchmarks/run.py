"""Every benchmark in one run: ``make bench``. The figures go to ``benchmarks/results/latest.json`` too."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks import (
    gallery,
    gpu_sdxl,
    metrics_stream,
    onboarding,
    output_sync,
    plays,
    queue_api,
    queue_growth,
    rows,
    scan,
    ssh_exec,
    start,
    swarm_deploy,
    swarm_listing,
)
from benchmarks.queue_peers import report as queue_peers_report
from benchmarks.scheduling import compare, growth

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    found: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "date": time.strftime("%Y-%m-%d"),
    }
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}\n")
    found["scheduling"] = {**compare.report(), "growth": growth.report()}
    print()
    found["start"] = start.report()
    print()
    found["queue"] = queue_api.report()
    print()
    found["queue_growth"] = queue_growth.report()
    print()
    found["queue_peers"] = queue_peers_report.report()
    print()
    found["rows"] = rows.report()
    print()
    found["gallery"] = gallery.report()
    print()
    found["output_sync"] = output_sync.report()
    print()
    found["metrics_stream"] = metrics_stream.report()
    print()
    found["swarm_listing"] = swarm_listing.report()
    print()
    found["swarm_deploy"] = swarm_deploy.report()
    print()
    found["ssh_exec"] = ssh_exec.report()
    print()
    found["scan"] = scan.report()
    print()
    found["plays"] = plays.report()
    print()
    found["onboarding"] = onboarding.report()
    print()
    if importlib.util.find_spec("playwright") and shutil.which("chromium"):
        from benchmarks import first_page

        found["first_page"] = first_page.report()
        print()
    else:
        print("first paint: left out, as playwright or Chromium is not installed\n")
    if importlib.util.find_spec("torch") and importlib.util.find_spec("diffusers"):
        from benchmarks import pipeline_vs_diffusers, sdxl_cpu

        found["pipeline"] = pipeline_vs_diffusers.report()
        print()
        found["sdxl_cpu"] = sdxl_cpu.report()
    else:
        print("seconds per picture beside diffusers: left out, as torch is not installed; 'make test-parity' installs it")
    on_a_gpu(found)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(found, indent=2) + "\n")


def on_a_gpu(found: dict[str, Any]) -> None:
    """SDXL in full size, where there is a GPU."""
    print()
    reason = gpu_sdxl.missing()
    if reason:
        print(gpu_sdxl.LEFT_OUT.format(reason))
    else:
        found["gpu_sdxl"] = gpu_sdxl.report()


if __name__ == "__main__":
    main()
