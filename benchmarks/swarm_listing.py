"""Listing services and members of swarms of 10, 100 and 1,000, beside the docker library's own call on the same engine.

The engine is a stand-in in a process of its own, so that engine and socket cost both sides the same.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx

from benchmarks.servers import control_plane

SIZES = (10, 100, 1_000)
ROUNDS = 30


def report() -> dict[str, Any]:
    """Measure and print."""
    print(f"{'listing, p50 ms':24} {'docker library':>15} {'API':>8} {'ratio':>6} {'growth':>8}")
    found: dict[str, Any] = {}
    first: dict[str, float] = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder, _engine(Path(folder) / "s", size) as path:
            for what, figures in _measure(Path(folder) / "home", path).items():
                first.setdefault(what, figures["api_ms"])
                grown = figures["api_ms"] / first[what]
                print(
                    f"{size:>6} {what:17} {figures['library_ms']:15.2f} {figures['api_ms']:8.2f} "
                    f"{figures['api_ms'] / figures['library_ms']:6.2f} {grown:7.1f}x"
                )
                found[f"{what} {size}"] = figures
    return found


def _measure(home: Path, path: str) -> dict[str, dict[str, float]]:
    library = docker.APIClient(f"unix://{path}", version="1.41")
    count: Any = library.services
    with (
        control_plane(home, FLEET_DOCKER_HOST=f"unix://{path}", FLEET_SWARM_MANAGER="local") as fleet,
        httpx.Client(base_url=f"http://127.0.0.1:{fleet.port}", trust_env=False, timeout=30) as api,
    ):

        def ask(row: str) -> Callable[[], Any]:
            return lambda: api.get(row).raise_for_status().json()

        pairs = {
            "services": (lambda: count(status=True), ask("/api/swarm/services")),
            "nodes": (library.nodes, ask("/api/swarm/nodes")),
        }
        return {what: _side_by_side(*pair) for what, pair in pairs.items()}


def _side_by_side(library: Callable[[], Any], api: Callable[[], Any]) -> dict[str, float]:
    """Return the medians of both, taken in turns."""
    assert len(library()) == len(api()), "both list the same"
    times: dict[str, list[float]] = {"library_ms": [], "api_ms": []}
    for _ in range(ROUNDS):
        for name, call in (("library_ms", library), ("api_ms", api)):
            started = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(each) for name, each in times.items()}


@contextmanager
def _engine(path: Path, size: int) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.engine_stand_in", str(path), str(size), str(size)])
    try:
        while not path.exists():
            if process.poll() is not None:
                raise RuntimeError("the stand-in of an engine did not start")
            time.sleep(0.02)
        yield str(path)
    finally:
        process.terminate()
        process.wait(10)
