"""Random ``kill -9`` and SIGSTOP of agents, engines and the API while jobs run: every job ends once, no file is missing, none is doubled.

``FLEET_FAULT_LEDGER`` names a file for the ledger. The long run: ``pytest -m soak tests/faults/test_fault_loop.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gpu_inference.protocol import LEASE_SECONDS
from tests.support.sim_fleet import MODELS, SimFleet, sim_fleet

AGENTS = 4
SEED = 20_260_103
ENDED = ("completed", "failed", "cancelled")
THREE_DEATHS = "Its worker died 3 times, so the job is not tried again."
RECOVERY = LEASE_SECONDS + 5.0
TICK = 0.05

pytestmark = pytest.mark.faults


@dataclass
class Fault:
    """What was done, when (epoch seconds), to whom, which attempt was open there; ``until`` is the end of a SIGSTOP."""

    kind: str
    at: float
    node: str
    job: tuple[str, int] | None
    until: float = 0.0
    recovered: float | None = None


@dataclass
class Loop:
    """Faults at random, tied to the progress of the jobs, so that they are spread over the whole run."""

    fleet: SimFleet
    jobs: int
    faults: int
    longest_stop: float
    chance: random.Random
    done: list[Fault] = field(default_factory=list)
    stopped: list[tuple[float, psutil.Process]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        submitting = threading.Thread(target=self._submit, daemon=True)
        submitting.start()
        while True:
            assert time.monotonic() < deadline, (self._states(), len(self.done), self.fleet.logs())
            self.fleet.supervise()
            self._continue(time.monotonic())
            self._note_api()
            ended = sum(number for state, number in self._states().items() if state in ENDED)
            if ended == self.jobs and len(self.done) == self.faults and not self.stopped:
                break
            due = min(self.faults, 1 + int(self.faults * ended / (0.9 * self.jobs)))
            if len(self.done) < due and (ended or self._states().get("processing")):
                self._hit()
            time.sleep(TICK)
        submitting.join(30)
        self.fleet.until_healthy()

    def _submit(self) -> None:
        for number in range(self.jobs):
            body = {
                "job_type": "image_gen", "max_retries": 100, "priority": ("low", "normal", "high")[number % 3],
                "payload": {"prompt": f"job {number}", "seed": number, "model": MODELS[number // 10 % 2], "width": 1000, "height": 1000,
                            "steps": 10},
            }  # fmt: skip
            while True:
                with contextlib.suppress(httpx.TransportError), self.fleet.client(5) as api:
                    answer = api.post("/api/queue/jobs", json=body, headers={"Idempotency-Key": f"job {number}"})
                    if answer.status_code == 201:
                        break
                time.sleep(0.1)

    def _states(self) -> dict[str, int]:
        return dict(self.fleet.rows("SELECT state, COUNT(*) FROM jobs GROUP BY state"))

    def _hit(self) -> None:
        role, how = self.chance.choice(("agent", "engine", "api")), self.chance.choice(("kill", "stop"))
        busy = [row[0] for row in self.fleet.rows("SELECT DISTINCT node_id FROM jobs WHERE state = 'processing' ORDER BY node_id")]
        node = self.chance.choice(busy or self.fleet.names) if role != "api" else ""
        stop = min(self.longest_stop, 1.0 + 19.0 * self.chance.random() ** 3)
        with contextlib.suppress(psutil.Error):
            process = self._target(role, node)
            if process is None or any(each.pid == process.pid for _, each in self.stopped):
                return
            open_here = self.fleet.rows("SELECT id, attempt FROM jobs WHERE state = 'processing' AND node_id = ?", node)
            process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGSTOP)
            fault = Fault(f"{how} {role}", time.time(), node, open_here[0] if open_here else None)
            if how == "stop":
                self.stopped.append((time.monotonic() + stop, process))
                fault.until = fault.at + stop
            self.done.append(fault)

    def _target(self, role: str, node: str) -> psutil.Process | None:
        if role == "engine":
            return self.fleet.engine(node)
        process = self.fleet.api if role == "api" else self.fleet.agents[node]
        return psutil.Process(process.pid) if process is not None and process.poll() is None else None

    def _continue(self, now: float) -> None:
        for due, process in [each for each in self.stopped if each[0] <= now]:
            self.stopped.remove((due, process))
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)

    def _note_api(self) -> None:
        waiting = [each for each in self.done if each.kind.endswith("api") and each.recovered is None and time.time() >= each.until]
        if waiting and self.fleet.healthy():
            for each in waiting:
                each.recovered = time.time() - max(each.at, each.until)


class Ledger:
    """What came of the faults, from the rows."""

    def __init__(self, loop: Loop, seconds: float) -> None:
        self.loop, self.seconds = loop, seconds
        fleet = loop.fleet
        self.jobs = fleet.rows("SELECT id, state, attempt, error FROM jobs")
        self.attempts = fleet.rows("SELECT job_id, attempt, node_id, started_at, ended_at, outcome, error, digest FROM job_attempts")
        self.starts = {(row[0], row[1]): row[3] for row in self.attempts}
        self.ends = {(row[0], row[1]): (row[4], row[5], row[6] or "") for row in self.attempts}
        self.nodes = {(row[0], row[1]): row[2] for row in self.attempts}
        for fault in loop.done:
            if fault.job is not None and self.ends[fault.job][1] != "completed":
                again = self.starts.get((fault.job[0], fault.job[1] + 1))
                fault.recovered = again - fault.at if again is not None else None

    def lapses(self) -> list[dict[str, Any]]:
        """Return the agents stopped until their lease lapsed: when the job went on elsewhere, where no other fault was in the way."""
        found = []
        for fault in self.loop.done:
            if fault.kind != "stop agent" or fault.job is None or fault.recovered is None or "fell silent" not in self.ends[fault.job][2]:
                continue
            others = [each for each in self.loop.done if each is not fault and each.at < fault.at + RECOVERY]
            clean = not any(max(each.at, each.until) + 5 > fault.at for each in others)
            next_node = self.nodes[fault.job[0], fault.job[1] + 1]
            found.append({"seconds": round(fault.recovered, 2), "elsewhere": next_node != fault.node, "clean": clean})
        return found

    def shown(self) -> dict[str, Any]:
        by_kind: dict[str, list[float]] = {}
        for fault in self.loop.done:
            if fault.recovered is not None:
                by_kind.setdefault(fault.kind, []).append(fault.recovered)
        return {
            "seed": SEED, "agents": AGENTS, "jobs": len(self.jobs), "seconds": round(self.seconds, 1),
            "faults": dict(sorted(Counter(fault.kind for fault in self.loop.done).items())),
            "states": dict(Counter(row[1] for row in self.jobs)),
            "attempts": len(self.attempts), "outcomes": dict(Counter(row[5] for row in self.attempts)),
            "most_attempts_of_a_job": max(row[2] for row in self.jobs),
            "failed_by_three_deaths": sum(row[1] == "failed" and THREE_DEATHS in (row[3] or "") for row in self.jobs),
            "recovery_seconds": {
                kind: {"faults_that_cost_something": len(took), "median": round(statistics.median(took), 2), "max": round(max(took), 2)}
                for kind, took in sorted(by_kind.items())
            },
            "lapsed_leases": self.lapses(),
        }  # fmt: skip


def check(loop: Loop, ledger: Ledger) -> None:
    """Every job ended once; files and rows agree."""
    shown = ledger.shown()
    assert len(ledger.jobs) == loop.jobs, "a job was lost, or made twice"
    assert all(row[1] in ("completed", "failed") for row in ledger.jobs), shown
    assert all(THREE_DEATHS in row[3] for row in ledger.jobs if row[1] == "failed"), [row for row in ledger.jobs if row[1] == "failed"]
    completed = [(row[0], row[7]) for row in ledger.attempts if row[5] == "completed"]
    assert len(completed) == len(dict(completed)) == shown["states"]["completed"], "a job was completed twice"
    assert all(row[4] is not None and row[5] is not None for row in ledger.attempts), "an attempt was left open"
    folder = loop.fleet.home / "outputs"
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.png")}
    assert files == {f"image_{job_id}.png": digest for job_id, digest in completed}, "a file is missing, doubled, or not the one reported"
    kept = dict(loop.fleet.rows("SELECT filename, sha256 FROM outputs"))
    assert kept == files
    assert not list((folder / ".incoming").iterdir()), "an upload of a closed attempt was left"
    assert len(set(files.values())) == len(files), "two jobs have the same picture"
    assert all(each["seconds"] <= RECOVERY for each in shown["lapsed_leases"] if each["clean"]), shown["lapsed_leases"]


def loop_over(folder: Path, jobs: int, faults: int, job_seconds: float, longest_stop: float, seconds: float) -> None:
    with sim_fleet(folder, AGENTS, job_seconds) as fleet:
        loop = Loop(fleet, jobs, faults, longest_stop, random.Random(SEED))
        begun = time.monotonic()
        loop.run(seconds)
        time.sleep(1)  # what was late is refused, and its upload dropped
        ledger = Ledger(loop, time.monotonic() - begun)
        text = json.dumps(ledger.shown(), indent=2)
        print(text)
        if os.environ.get("FLEET_FAULT_LEDGER"):
            Path(os.environ["FLEET_FAULT_LEDGER"]).write_text(text + "\n")
        check(loop, ledger)


@pytest.mark.timeout(240)
def test_random_faults_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    loop_over(tmp_path, jobs=60, faults=25, job_seconds=0.8, longest_stop=6.0, seconds=180)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_two_hundred_random_faults_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    loop_over(tmp_path, jobs=300, faults=200, job_seconds=1.5, longest_stop=20.0, seconds=1_500)
