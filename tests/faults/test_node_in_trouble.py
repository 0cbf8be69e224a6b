"""A node whose network is cut, or whose disk is full; a database that another process holds: the jobs go on, nothing is doubled."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_inference.protocol import LEASE_SECONDS
from tests.support.cut import wire_to
from tests.support.sim_fleet import SimFleet

JOB_SECONDS = 3.0
HELD_SECONDS = 9.0  # longer than the API waits for a lock
PICTURE: dict[str, Any] = {"prompt": "x", "model": "sim-a", "width": 1000, "height": 1000, "steps": 10}

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SimFleet]:
    fleet = SimFleet(tmp_path, 2, JOB_SECONDS)
    yield fleet
    fleet.stop()


def submit(fleet: SimFleet, **more: str) -> str:
    with fleet.client() as api:
        answer = api.post("/api/vision/generate", json={**PICTURE, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def begun_on_the_first(fleet: SimFleet) -> str:
    """Return a job that sim0 is in the middle of; sim1 may take it from there."""
    with fleet.client() as api:
        api.patch("/api/nodes/sim1", json={"labels": {"maintenance": "yes"}}).raise_for_status()
        job = submit(fleet)
        until(lambda: attempts(fleet, job)[:1] and step_of(fleet, job) > 0, 20)
        api.patch("/api/nodes/sim1", json={"labels": {}}).raise_for_status()
    return job


def step_of(fleet: SimFleet, job: str) -> int:
    with fleet.client() as api:
        return int(api.get(f"/api/queue/jobs/{job}").json().get("progress", 0))


def attempts(fleet: SimFleet, job: str) -> list[tuple[Any, ...]]:
    return fleet.rows("SELECT node_id, outcome, error, started_at FROM job_attempts WHERE job_id = ? ORDER BY attempt", job)


def until(true: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def completed(fleet: SimFleet, *jobs: str) -> bool:
    states = dict(fleet.rows("SELECT id, state FROM jobs"))
    return all(states[job] == "completed" for job in jobs)


def pictures(fleet: SimFleet) -> list[str]:
    assert not list((fleet.home / "outputs" / ".incoming").iterdir())
    return sorted(path.name for path in (fleet.home / "outputs").glob("*.png"))


def test_a_node_whose_network_is_cut_loses_its_job_to_another_and_its_late_result_is_refused(fleet: SimFleet) -> None:
    with wire_to(fleet.port) as wire:
        fleet.agent_urls["sim0"] = f"http://127.0.0.1:{wire.port}"
        fleet.start()
        job = begun_on_the_first(fleet)
        wire.cut()
        cut = time.time()
        until(lambda: len(attempts(fleet, job)) == 2, LEASE_SECONDS + 10)
        first, second = attempts(fleet, job)
        assert (first[0], first[1], second[0]) == ("sim0", "lost", "sim1")
        assert second[3] - cut <= LEASE_SECONDS + 5
        until(lambda: completed(fleet, job), 20)
        wire.mend()
        log = fleet.folder / "sim0.log"
        until(lambda: "too late and is dropped" in log.read_text() or "The control plane ends an attempt" in log.read_text(), 60)
        again = submit(fleet)
        until(lambda: completed(fleet, again), 60)
        assert [each[1] for each in attempts(fleet, job)] == ["lost", "completed"]
        assert pictures(fleet) == sorted(f"image_{each}.png" for each in (job, again))


def test_a_full_disk_on_a_node_costs_an_attempt_and_says_so(fleet: SimFleet) -> None:
    fleet.start()
    job = begun_on_the_first(fleet)
    agent = psutil.Process(fleet.agents["sim0"].pid)
    agent.rlimit(psutil.RLIMIT_FSIZE, (16, resource.RLIM_INFINITY))
    until(lambda: completed(fleet, job), 60)
    first, *_, last = attempts(fleet, job)
    assert first[:2] == ("sim0", "failed")
    assert first[2] == "The finished picture cannot be kept on the node's disk (File too large)."
    assert last[:2] == ("sim1", "completed")
    agent.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not list((fleet.folder / "sim0" / "pending").iterdir())
    other = submit(fleet, target_node="sim0")
    until(lambda: completed(fleet, other), 60)
    assert len(pictures(fleet)) == 2


def test_a_database_that_another_process_holds_delays_and_loses_nothing(fleet: SimFleet) -> None:
    fleet.start()
    taken = [submit(fleet, target_node=name) for name in fleet.names]
    until(lambda: len(fleet.rows("SELECT 1 FROM jobs WHERE state = 'processing'")) == 2, 20)
    with contextlib.closing(sqlite3.connect(fleet.home / "fleet.db", isolation_level=None, timeout=10)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        held = time.monotonic()
        with fleet.client(20) as api:
            answer = api.post("/api/vision/generate", json=PICTURE)
        assert (answer.status_code, "locked by another program" in answer.json()["detail"]) == (503, True)
        time.sleep(max(0.0, held + HELD_SECONDS - time.monotonic()))  # meanwhile both jobs end on their nodes
        holder.execute("ROLLBACK")
    taken.append(submit(fleet))
    until(lambda: completed(fleet, *taken), 120)
    assert len(fleet.rows("SELECT 1 FROM jobs")) == len(taken), "a job that was refused was queued all the same"
    assert [row[0] for row in fleet.rows("SELECT outcome FROM job_attempts")] == ["completed"] * len(taken)
    assert pictures(fleet) == sorted(f"image_{each}.png" for each in taken)
