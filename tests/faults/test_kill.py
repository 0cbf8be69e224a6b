"""kill -9 of API, agent and engine in the middle of jobs: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.product import Product, running
from tests.support.tiny_model import make_tiny_model

SEED = 20_260_101
KILLS = 30
STEPS = 110
STEP_SECONDS = 0.015  # so that a job takes well over a second
ROLES = ("api", "agent", "engine")
EXPECTED = {
    "api": ["completed"],  # the agent goes on, and delivers once the API is back
    "agent": ["lost", "completed"],
    "engine": ["failed", "completed"],
}
ENDED = ("completed", "failed", "cancelled")

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def submit(product: Product, key: str, seed: int, deadline: float) -> str:
    """Submit until it is acknowledged; the key makes the repeats one job."""
    body = {"prompt": f"picture {seed}", "seed": seed, "steps": STEPS, "width": 64, "height": 64}
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


def ask(product: Product, path: str, deadline: float) -> dict[str, Any]:
    """Ask until the API answers: it may just have been killed."""
    while True:
        try:
            with product.client(timeout=5) as client:
                return dict(client.get(path).json())
        except (httpx.TransportError, ValueError):
            assert time.monotonic() < deadline, "the API did not come back"
            time.sleep(0.05)


def in_its_middle(product: Product, job_id: str, deadline: float) -> None:
    """Return once the job is being worked on, with most of its steps still to do."""
    while True:
        shown = ask(product, f"/api/vision/jobs/{job_id}", deadline)
        assert shown["status"] in ("queued", "processing"), "the job ended before it could be hit: give it more steps"
        if shown["status"] == "processing" and 0 < shown["progress"] < 40:
            return
        assert time.monotonic() < deadline, shown
        time.sleep(0.01)


def ended(product: Product, job_id: str, deadline: float) -> dict[str, Any]:
    while True:
        shown = ask(product, f"/api/queue/jobs/{job_id}", deadline)
        if shown["status"] in ENDED:
            return shown
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)


def test_thirty_kills_in_mid_job_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    model = make_tiny_model(tmp_path / "model", step_seconds=STEP_SECONDS, name="fleet-shapes")
    with running(tmp_path / "home", FLEET_AGENT_MODELS=str(model)) as product:
        jobs: list[dict[str, Any]] = []
        for number in range(KILLS):
            role = ROLES[number % len(ROLES)]
            job_id = submit(product, f"key-{number}", number, time.monotonic() + 60)
            in_its_middle(product, job_id, time.monotonic() + 60)
            time.sleep(chance.uniform(0.0, 0.15))
            assert kill(product, role), f"there was no {role} to kill"
            jobs.append(ended(product, job_id, time.monotonic() + 90))
        outputs = ask(product, "/api/vision/outputs?limit=500", time.monotonic() + 10)
        stats = ask(product, "/api/queue/stats", time.monotonic() + 10)
    assert [job["status"] for job in jobs] == ["completed"] * KILLS, [job.get("error") for job in jobs]
    for number, job in enumerate(jobs):
        outcomes = [attempt["outcome"] for attempt in job["history"]]
        assert outcomes == EXPECTED[ROLES[number % len(ROLES)]], (number, job["history"])
    ids = [job["job_id"] for job in jobs]
    assert len(set(ids)) == KILLS == stats["completed"]
    names = sorted(f"image_{job_id}.png" for job_id in ids)
    assert sorted(each["filename"] for each in outputs["outputs"]) == names
    assert sorted(path.name for path in (tmp_path / "home" / "outputs").glob("*.png")) == names


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
