"""Batches that are broken off: nobody's picture is lost or made twice, and who breaks them pays for it alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.sim_fleet import SimFleet, sim_fleet

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]


def submit(api: httpx.Client, number: int = 1, **more: Any) -> list[str]:
    body = {"prompt": "fine", "model": "sim-a", "scheduler": "euler", "width": 1024, "height": 1024, "steps": 10, "count": number, **more}
    answer = api.post("/api/vision/generate", json=body)
    assert answer.status_code == 201, answer.text
    return list(answer.json()["job_ids"])


def ended(fleet: SimFleet, api: httpx.Client, ids: list[str], seconds: float = 60) -> list[dict[str, Any]]:
    end = time.monotonic() + seconds
    while True:
        jobs = [api.get(f"/api/queue/jobs/{job_id}").json() for job_id in ids]
        if all(job["status"] in ("completed", "failed") for job in jobs):
            return jobs
        assert time.monotonic() < end, (jobs, fleet.logs())
        time.sleep(0.1)


def wait_for(fleet: SimFleet, query: str) -> None:
    end = time.monotonic() + 30
    while not fleet.rows(query)[0][0]:
        assert time.monotonic() < end, fleet.logs()
        time.sleep(0.05)


def test_an_engine_killed_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    with sim_fleet(tmp_path, 1, 2.0, FLEET_AGENT_BATCH="4") as fleet, fleet.client() as api:
        made = submit(api, 8)
        wait_for(fleet, "SELECT count(*) >= 4 FROM jobs WHERE state = 'processing'")
        time.sleep(0.7)
        engine = fleet.engine("sim0")
        assert engine is not None
        engine.kill()
        jobs = ended(fleet, api, made)
        assert [job["status"] for job in jobs] == ["completed"] * 8
        parted = [job for job in jobs if [each["outcome"] for each in job["history"]] == ["parted", "completed"]]
        assert len(parted) == 4
        assert {job["result"]["batch"] for job in parted} == {1}, "each is made alone then"
        assert {job["result"]["batch"] for job in jobs if job not in parted} == {4}
        assert fleet.rows("SELECT sum(failures), sum(losses) FROM jobs") == [(0, 0)]
        assert fleet.rows("SELECT count(*), count(DISTINCT job_id) FROM outputs") == [(8, 8)]


def test_an_agent_killed_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    with sim_fleet(tmp_path, 1, 2.0, FLEET_AGENT_BATCH="4") as fleet, fleet.client() as api:
        made = submit(api, 4)
        wait_for(fleet, "SELECT count(*) = 4 FROM jobs WHERE state = 'processing'")
        time.sleep(0.7)
        fleet.agents["sim0"].kill()
        fleet.agents["sim0"].wait()
        fleet.supervise()
        assert [job["status"] for job in ended(fleet, api, made)] == ["completed"] * 4
        assert fleet.rows("SELECT count(*), count(DISTINCT job_id) FROM outputs") == [(4, 4)]


def test_one_job_that_ends_every_engine_fails_and_its_companions_are_made(tmp_path: Path) -> None:
    fleet = SimFleet(tmp_path, 1, 1.0, BAD_ENGINE_BATCH="4")
    fleet.agent_module = "tests.support.agent_of_engine"
    try:
        fleet.start()
        with fleet.client() as api:
            first = submit(api, 1)
            bad = submit(api, 1, prompt="crash")
            others = submit(api, 6)
            jobs = ended(fleet, api, [*first, *others])
            assert [job["status"] for job in jobs] == ["completed"] * 7, fleet.logs()
            assert fleet.rows("SELECT sum(failures), sum(losses) FROM jobs WHERE state = 'completed'") == [(0, 0)]
            [job] = ended(fleet, api, bad, 90)
            assert job["status"] == "failed"
            assert "Its worker died 3 times" in job["error"]
    finally:
        fleet.stop()


def test_batches_are_worth_it_where_the_others_cost_less(tmp_path: Path) -> None:
    took = {}
    for batch in ("1", "4"):
        folder = tmp_path / batch
        folder.mkdir()
        fleet = SimFleet(folder, 1, 0.5, FLEET_AGENT_BATCH=batch)
        fleet.table.write_text(fleet.table.read_text().replace('"jitter": 0.2', '"jitter": 0, "batch_factor": 0.2'))
        try:
            fleet.start()
            with fleet.client() as api:
                ended(fleet, api, submit(api, 1))
                begun = time.monotonic()
                ended(fleet, api, submit(api, 8))
                took[batch] = time.monotonic() - begun
        finally:
            fleet.stop()
    assert took["4"] < 0.7 * took["1"], took
