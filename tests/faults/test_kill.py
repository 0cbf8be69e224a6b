"""kill -9 of API, agent and engine in the middle of jobs: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.product import Product, running
from tests.support.tiny_model import make_tiny_model

SEED = 20_260_101
KILLS = 30
DELAY = 900  # makes a step last about 30 ms
ROLES = ("api", "agent", "engine")
ENDED = ("completed", "failed", "cancelled")

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def submit(product: Product, key: str, seed: int, deadline: float) -> str:
    """Submit until it is acknowledged; the key makes the repeats one job."""
    body = {"prompt": f"picture {seed}", "seed": seed, "steps": 20, "width": 64, "height": 64}
    while True:
        try:
            with product.client(timeout=5) as client:
                answer = client.post("/api/vision/generate", json=body, headers={"Idempotency-Key": key})
            if answer.status_code == 201:
                return str(answer.json()["job_id"])
            assert answer.status_code == 503, answer.text
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "the API did not come back"
        time.sleep(0.05)


def wait_all(product: Product, ids: list[str], deadline: float) -> list[dict[str, object]]:
    while True:
        try:
            with product.client(timeout=5) as client:
                jobs = [client.get(f"/api/queue/jobs/{job_id}").json() for job_id in ids]
            if all(job.get("status") in ENDED for job in jobs):
                return jobs
        except (httpx.TransportError, ValueError):
            pass
        assert time.monotonic() < deadline, [job["status"] for job in jobs]
        time.sleep(0.1)


def test_thirty_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    model = make_tiny_model(tmp_path / "model", delay_size=DELAY, name="fleet-shapes")
    killed: dict[str, int] = dict.fromkeys(ROLES, 0)
    with running(tmp_path / "home", FLEET_AGENT_MODELS=str(model)) as product:
        ids: list[str] = []
        for number in range(KILLS):
            ids.append(submit(product, f"key-{number}", number, time.monotonic() + 60))
            time.sleep(chance.uniform(0.0, 1.0))
            role = ROLES[number % len(ROLES)]
            killed[role] += kill(product, role)
        jobs = wait_all(product, ids, time.monotonic() + 180)
        with product.client() as client:
            outputs = client.get("/api/vision/outputs?limit=500").json()
            stats = client.get("/api/queue/stats").json()
    assert killed == dict.fromkeys(ROLES, KILLS // len(ROLES))
    assert len(set(ids)) == KILLS
    assert [job["status"] for job in jobs] == ["completed"] * KILLS, [job.get("error") for job in jobs]
    assert stats["completed"] == KILLS, "no job was made twice"
    for job in jobs:
        ends = [attempt["outcome"] for attempt in job["history"]]  # type: ignore[index, attr-defined]
        assert ends.count("completed") == 1
        assert ends[-1] == "completed"
    names = sorted(f"image_{job_id}.png" for job_id in ids)
    assert sorted(each["filename"] for each in outputs["outputs"]) == names
    assert sorted(path.name for path in (tmp_path / "home" / "outputs").glob("*.png")) == names
    assert sum(len(job["history"]) for job in jobs) > KILLS, "some kill must have hit a job in its middle"  # type: ignore[arg-type]


def kill(product: Product, role: str) -> bool:
    """Kill -9 a role's process, waiting for it to be there; return whether there was one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = product.children().get(role)
        if found is not None:
            try:
                found.kill()
            except psutil.NoSuchProcess:
                continue
            return True
        time.sleep(0.05)
    return False
