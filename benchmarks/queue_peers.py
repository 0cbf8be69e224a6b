"""The job queue beside Celery, RQ, Dramatiq, SAQ, taskiq (Redis) and Procrastinate (PostgreSQL): ``python -m benchmarks.queue_peers``.

Every record is durable: Redis with ``appendonly yes`` and ``appendfsync always``, PostgreSQL with its ``fsync``, ours after its fsync.
No-op jobs, submitted one after the other by one client; one worker process each. Ours goes through HTTP, with a fake agent that leases,
uploads a small picture and completes for every job. The peers are installed from PyPI into an environment that is thrown away;
``FLEET_BENCH_PEERS`` names one that is there. Without redis-server or PostgreSQL what needs it is left out.
"""

from __future__ import annotations

import asyncio
import glob
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.fleet import CAPABILITIES, enrol_many
from benchmarks.http_client import Connection, rate
from benchmarks.queue_peers_app import Log, measure, note
from benchmarks.servers import control_plane, free_port
from tests.support.agent import png

HOST = "127.0.0.1"
ON_REDIS = ("celery", "rq", "dramatiq", "saq", "taskiq")
PACKAGES = (*ON_REDIS, "taskiq-redis", "redis", "hiredis", "procrastinate", "psycopg[binary,pool]")
APP = Path(__file__).with_name("queue_peers_app.py")
RESULTS = Path(__file__).parent / "results" / "queue_peers.json"
JOBS = 1_000
SAMPLES = 100
CONNECTIONS = 64
AGENTS = 8
"""Agents in one process, for a second figure of ours; the peers' workers run up to ten jobs at a time."""

ROUNDS = 3
JOB = {"job_type": "image_gen", "payload": {"prompt": "a red circle on a blue background"}}


def report(turns: int = ROUNDS) -> dict[str, Any]:
    """Measure, print and keep."""
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)
        servers: dict[str, str] = {}
        if shutil.which("redis-server"):
            servers |= dict.fromkeys(ON_REDIS, stack.enter_context(_redis(Path(folder))))
        else:
            print("queues on Redis: left out, as redis-server is not installed")
        if (initdb := _postgres_program("initdb")) is not None:
            servers["procrastinate"] = stack.enter_context(_postgres(Path(folder), initdb))
        else:
            print("Procrastinate: left out, as PostgreSQL is not installed")
        python = _environment(Path(folder)) if servers else None
        for turn in range(turns):
            rounds.append({"ours": asyncio.run(_ours())})
            for number, (peer, url) in enumerate(servers.items() if python is not None else ()):
                address = f"{url}/{number + turn * len(ON_REDIS)}" if peer in ON_REDIS else url
                rounds[-1][peer] = _peer(str(python), Path(folder), peer, address)
    found = {name: _middle([each[name] for each in rounds]) for name in rounds[0]}
    _print(found)
    RESULTS.write_text(
        json.dumps({"cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"), "rounds": turns, "queues": found}, indent=2) + "\n"
    )
    return found


def _middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure, of the rounds that went through."""
    good = [each for each in rounds if "error" not in each]
    return {name: median(each[name] for each in good) for name in good[0]} if good else rounds[0]


def _print(found: dict[str, Any]) -> None:
    print(f"{'no-op jobs':16} {'submits/s':>10} {'end to end/s':>13} {'idle start p50':>15} {'p99 ms':>8}")
    for name, each in found.items():
        if "error" in each:
            print(f"{name:16} left out: {each['error']}")
            continue
        print(
            f"{name:16} {each['submits_per_second']:10.0f} {each['jobs_per_second']:13.0f}"
            f" {each['start_p50_ms']:15.1f} {each['start_p99_ms']:8.1f}"
        )
    ours = found["ours"]
    print(f"ours with {CONNECTIONS} callers at once: {ours['submits_per_second_many']:.0f} submits/s")
    print(f"ours with {AGENTS} agents in the worker's process: {ours['jobs_per_second_many']:.0f} jobs/s end to end")


async def _ours() -> dict[str, float]:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder)) as control:
        home = Path(folder)
        all_headers = await enrol_many(home, control.port, AGENTS)
        request = Connection.prepare("POST", "/api/queue/jobs", JOB)

        async def measured(what: str, number: int) -> dict[str, float]:
            caller = await Connection(HOST, control.port).open()  # a fresh one, as the API closes those that are idle for some seconds

            async def submit() -> None:
                status, body = await caller.send(request)
                if status != 201:
                    raise RuntimeError(f"expected 201, got {status}: {body[:200]!r}")

            try:
                return await measure(what, number, submit, log)
            finally:
                caller.close()

        log = str(home / "starts")
        found |= await measured("submit", JOBS)
        with _agents(control.port, all_headers[:1], log):
            await _drained(control.port)
            found |= await measured("latency", SAMPLES)
            found |= await measured("through", JOBS)
            await _drained(control.port)
        with _agents(control.port, all_headers, log):
            found["jobs_per_second_many"] = (await measured("through", JOBS))["jobs_per_second"]
            await _drained(control.port)
        found["submits_per_second_many"] = await rate(HOST, control.port, request, JOBS, CONNECTIONS, 201)
    return found


@contextmanager
def _agents(port: int, headers: list[dict[str, str]], log: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.queue_peers", "agents", str(port), json.dumps(headers), log])
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


async def _drained(port: int) -> None:
    """Wait until no job waits or runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        caller = await Connection(HOST, port).open()
        _, body = await caller.send(Connection.prepare("GET", "/api/queue/stats"))
        caller.close()
        stats = json.loads(body)
        if not stats["queued"] and not stats["processing"]:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the queue did not empty")


async def _work(port: int, headers: list[dict[str, str]], log: str) -> None:
    await asyncio.gather(*(_agent(port, each, log) for each in headers))


async def _agent(port: int, headers: dict[str, str], log: str) -> None:
    """Lease, note the start, upload, complete, for ever."""
    connection = await Connection(HOST, port).open()
    data = png()
    digest = hashlib.sha256(data).hexdigest()
    result = {
        "seed": 0, "model": "fleet-shapes", "sampler": "euler", "steps": 1, "width": 64, "height": 64,
        "native_width": 64, "native_height": 64, "generation_time": 0.0,
    }  # fmt: skip
    while True:
        asked = {"incarnation": "bench", "request_id": uuid.uuid4().hex, "capabilities": CAPABILITIES, "wait_seconds": 20}
        asked["loaded_model"] = "fleet-shapes"
        _, body = await connection.send(Connection.prepare("POST", "/api/agents/lease", asked, headers))
        lease = json.loads(body)["lease"]
        if lease is None:
            continue
        note(log)
        put = f"PUT /api/agents/uploads/{lease['job_id']}/{lease['attempt']} HTTP/1.1"
        lines = [put, f"Host: {HOST}", f"Content-Length: {len(data)}", f"X-Content-SHA256: {digest}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        done = {"incarnation": "bench", "job_id": lease["job_id"], "attempt": lease["attempt"], "sha256": digest, "result": result}
        for request in (
            "\r\n".join(lines).encode() + b"\r\n\r\n" + data,
            Connection.prepare("POST", "/api/agents/complete", done, headers),
        ):
            status, body = await connection.send(request)
            if status != 204:
                raise RuntimeError(f"expected 204, got {status}: {body[:200]!r}")


def _peer(python: str, folder: Path, peer: str, url: str) -> dict[str, Any]:
    """Return a peer's figures, or why there are none."""
    log = folder / f"{peer}.log"
    log.unlink(missing_ok=True)
    env = {**os.environ, "QUEUE_PEER": peer, "QUEUE_URL": url, "QUEUE_LOG": str(log), "C_FORCE_ROOT": "1", "PYTHONPATH": str(folder)}
    shutil.copy(APP, folder)
    words = [python, str(folder / APP.name)]

    def client(what: str, number: int) -> dict[str, Any]:
        done = subprocess.run([*words, what, str(number)], env=env, cwd=folder, capture_output=True, text=True, timeout=180)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"its client failed: {done.returncode}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    try:
        found = client("submit", JOBS)
        begun = Log(str(log))
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        worker = subprocess.Popen([*words, "worker"], env=env, cwd=folder, **quiet)
        try:
            asyncio.run(begun.wait(JOBS))
            time.sleep(0.5)
            return {**found, **client("latency", SAMPLES), **client("through", JOBS)}
        finally:
            os.killpg(worker.pid, signal.SIGKILL)  # with all that it has started
            worker.wait(30)
    except (RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}


def _environment(folder: Path) -> str | None:
    """Return the Python of an environment that has the peers."""
    if given := os.environ.get("FLEET_BENCH_PEERS"):
        return str(Path(given) / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "peers")], check=True)
    python = str(folder / "peers" / "bin" / "python")
    done = subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        print("peers' queues: left out, as they could not be installed")
        return None
    return python


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    port = free_port()
    words = [
        "--bind",
        HOST,
        "--port",
        str(port),
        "--dir",
        str(folder),
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
        "--databases",
        "32",
    ]
    process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield f"redis://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _postgres_program(name: str) -> str | None:
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


@contextmanager
def _postgres(folder: Path, initdb: str) -> Iterator[str]:
    port, data = free_port(), folder / "postgres"
    data.mkdir()
    user: dict[str, Any] = {}
    if not os.getuid():  # it will not run as root
        account = pwd.getpwnam("postgres")
        os.chown(data, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "cwd": data}
    words = [initdb, "-D", str(data / "db"), "-U", "bench", "--auth", "trust"]
    subprocess.run(words, check=True, capture_output=True, **user)
    server = str(Path(initdb).with_name("postgres"))
    words = [server, "-D", str(data / "db"), "-p", str(port), "-h", HOST, "-k", str(data)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
    try:
        time.sleep(2)
        yield f"postgresql://bench@{HOST}:{port}/postgres"
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    if sys.argv[1:2] == ["agents"]:
        asyncio.run(_work(int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]))
    else:
        report()
