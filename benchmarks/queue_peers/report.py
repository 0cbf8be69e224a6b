"""Submissions, jobs from end to end, the idle start, and the recovery of a killed worker's job, ours beside six task queues.

``python -m benchmarks.queue_peers.report``. It wants Redis and PostgreSQL (Debian: ``redis-server postgresql``) and installs the peers from
PyPI in an environment of their own. Every store syncs each write to disk. Each queue has one worker process with its own defaults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.queue_peers import own, stores
from benchmarks.servers import control_plane

APPS = Path(__file__).parent / "apps"
RESULTS = Path(__file__).parents[1] / "results" / "queue_peers.json"
PACKAGES = ("celery[redis]", "rq", "dramatiq[redis]", "saq[redis]", "taskiq>=0.12,<0.13", "taskiq-redis", "procrastinate")
PEERS = ("celery", "rq", "dramatiq", "saq", "taskiq", "procrastinate")
JOBS = 2_000
BATCHED = 20_000
SAMPLES = 200
KILL_PATIENCE = 60.0
START_SECONDS = 4.0
DEVICES = 8
WAIT_FOR_SILENCE = 8.0
"""So long after its last word an agent counts as offline."""


def report() -> dict[str, Any]:
    """Measure and print; leave out what is not installed."""
    if stores.redis_server() is None or stores.postgres_folder() is None:
        print("task queues beside ours: left out, as Redis or PostgreSQL is not installed (Debian: redis-server postgresql)")
        return {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "redis").mkdir()
        (folder / "postgres").mkdir()
        python = _environment(folder / "venv")
        found = {"fleet": _ours(folder)}
        with stores.redis(folder / "redis") as redis, stores.postgres(folder / "postgres") as postgres:
            env = {**os.environ, "BENCH_REDIS": redis, "BENCH_POSTGRES": postgres, "PYTHONPATH": str(APPS)}
            for peer in PEERS:
                try:
                    found[peer] = _peer(python, env, peer, folder)
                except (subprocess.CalledProcessError, ValueError) as error:
                    print(f"{peer}: left out, as it does not run here ({type(error).__name__})")
    _print(found)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    return found


def _environment(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "-q", *PACKAGES], check=True, stderr=subprocess.DEVNULL)
    return str(folder / "bin" / "python")


def _figures(many: dict[str, float], seconds: list[float], recovered: float | None) -> dict[str, Any]:
    seconds = sorted(seconds)
    return {
        "submits_per_second": round(JOBS / many["submitted"], 1),
        "jobs_per_second": round(JOBS / many["done"], 1),
        "start_p50_ms": round(statistics.median(seconds) * 1000, 2),
        "start_p99_ms": round(seconds[int(len(seconds) * 0.99)] * 1000, 2),
        "recovery_seconds": None if recovered is None else round(recovered, 1),
    }


def _ours(folder: Path) -> dict[str, Any]:
    home, trace = folder / "home", folder / "fleet.starts"
    trace.touch()
    home.mkdir()

    def starts() -> int:
        return trace.stat().st_size // 20

    def last() -> float:
        return float(trace.read_bytes()[-20:])

    def wait_for(number: int) -> None:
        end = time.monotonic() + 120
        while starts() < number:
            if time.monotonic() > end:
                raise RuntimeError(f"only {starts()} of {number} jobs were done")
            time.sleep(0.001)

    async def measure(port: int) -> dict[str, Any]:
        names = [f"device-{number}" for number in range(DEVICES)]
        credentials = [await own.enrol(home, port, name) for name in names]
        one = await several(port, credentials[:1])
        eight = await several(port, credentials)
        recovered = await own.recovery(home, port)
        more = {"jobs_per_second_8_devices": eight["jobs_per_second"], "batched_per_second": round(await own.batches(port, BATCHED))}
        return {**one, "recovery_seconds": round(recovered, 1), **more}

    async def several(port: int, credentials: list[str]) -> dict[str, Any]:
        words = ["-m", "benchmarks.queue_peers.own", str(port), ",".join(credentials), str(trace)]
        worker = await asyncio.create_subprocess_exec(sys.executable, *words)
        try:
            await asyncio.sleep(1)
            seconds = await own.latencies(port, SAMPLES, starts, last)
            before = starts()
            many = await own.many(port, JOBS, lambda number: wait_for(before + number))
        finally:
            worker.kill()
            await worker.wait()
        await asyncio.sleep(WAIT_FOR_SILENCE)
        return _figures(many, seconds, None)

    with control_plane(home, FLEET_QUEUE_LIMIT="1000000") as control:
        return asyncio.run(measure(control.port))


def _peer(python: str, env: dict[str, str], peer: str, folder: Path) -> dict[str, Any]:
    app = f"{peer}_app"

    def drive(mode: str, path: Path, number: int = 0) -> Any:
        words = [python, str(APPS / "drive.py"), app, mode, str(path), str(number)]
        return json.loads(subprocess.run(words, env=env, check=True, capture_output=True, text=True, cwd=folder).stdout)

    latency, trace, killed = (folder / f"{peer}.{what}" for what in ("latency", "many", "killed"))
    command = [python, *drive("worker", folder)]
    if peer == "procrastinate":
        drive("many", folder / "schema", 0)
    with _worker(command, env, folder):
        seconds = drive("latency", latency, SAMPLES)["seconds"]
        many = drive("many", trace, JOBS)
    return _figures(many, seconds, _recovery(command, env, folder, lambda: drive("slow", killed), killed))


def _recovery(command: list[str], env: dict[str, str], folder: Path, submit: Any, trace: Path) -> float | None:
    """Kill a worker in the middle of a job and start another; None where the job does not run again in time."""
    with _worker(command, env, folder) as worker:
        submit()
        _starts(trace, 1, 30)
        for child in [*worker.children(recursive=True), worker]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    begun = time.monotonic()
    with _worker(command, env, folder, wait=0.0):
        return time.monotonic() - begun if _starts(trace, 2, KILL_PATIENCE) else None


def _starts(trace: Path, number: int, patience: float) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if trace.exists() and trace.stat().st_size // 20 >= number:
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def _worker(command: list[str], env: dict[str, str], folder: Path, wait: float = START_SECONDS) -> Iterator[psutil.Process]:
    process = subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(wait)
    found = psutil.Process(process.pid)
    try:
        yield found
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in [*found.children(recursive=True), found]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.wait(10)


def _print(found: dict[str, Any]) -> None:
    print(f"{'one worker process each':15} {'submits/s':>10} {'jobs/s':>8} {'start p50':>10} {'p99':>9} {'killed, again after':>20}")
    for name, each in found.items():
        again = "not in a minute" if each["recovery_seconds"] is None else f"{each['recovery_seconds']:.1f} s"
        print(
            f"{name:23} {each['submits_per_second']:10.0f} {each['jobs_per_second']:8.0f} {each['start_p50_ms']:7.1f} ms"
            f" {each['start_p99_ms']:6.1f} ms {again:>20}"
        )
    print(f"ours with one worker process of {DEVICES} devices: {found['fleet']['jobs_per_second_8_devices']:.0f} jobs/s")
    print(f"ours in batches of 100: {found['fleet']['batched_per_second']:.0f} jobs/s (goal 10,000)")


if __name__ == "__main__":
    report()
