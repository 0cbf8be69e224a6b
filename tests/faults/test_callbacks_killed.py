"""``kill -9`` of the API while jobs end and their callbacks go out: each end is told, under one id, and none is missing."""

from __future__ import annotations

import contextlib
import json
import random
import time
from pathlib import Path

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.support.product import Product, running
from tests.support.receiver import receiver
from tests.support.tiny_model import make_tiny_model

JOBS, KILLS, SEED = 12, 5, 20_260_102

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def submit(product: Product, url: str, number: int, deadline: float) -> str:
    picture = {"prompt": f"picture {number}", "seed": number, "steps": 20, "width": 64, "height": 64}
    body = {"job_type": "image_gen", "payload": picture, "callback_url": url}
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError, KeyError, ValueError), product.client(timeout=5) as client:
            answer = client.post("/api/queue/jobs", json=body, headers={"Idempotency-Key": f"job {number}"})
            return str(answer.json()["job_id"])
        time.sleep(0.05)
    raise AssertionError("the API did not come back")


def test_each_end_is_told_though_the_api_is_killed(tmp_path: Path) -> None:
    chance, model = random.Random(SEED), make_tiny_model(tmp_path / "model", step_seconds=0.02, name="fleet-shapes")
    home = tmp_path / "home"
    with receiver(pause=0.1) as there, running(home, FLEET_AGENT_MODELS=str(model), FLEET_CALLBACK_NETWORKS="127.0.0.0/8") as product:
        deadline = time.monotonic() + 200
        jobs = []
        for number in range(JOBS):
            jobs.append(submit(product, there.url, number, deadline))
            if number % (JOBS // KILLS) == 0:
                time.sleep(chance.uniform(0.2, 1.5))
                with contextlib.suppress(KeyError):
                    product.children()["api"].kill()
        ids: dict[str, set[str]] = {}
        while len(ids) < JOBS:
            assert time.monotonic() < deadline, f"{len(ids)} of {JOBS} were told: {product.logs()[-2_000:]}"
            time.sleep(0.1)
            for got in list(there.got):
                ids.setdefault(json.loads(got.body)["data"]["job_id"], set()).add(got.headers["webhook-id"])
        assert set(ids) == set(jobs), "a key makes one job, whatever is killed"
        assert {len(each) for each in ids.values()} == {1}
        secret = json.loads(product.fleet("webhook-secret", "show", "--json").stdout)["secret"]
        for got in there.got:
            assert Webhook(secret).verify(got.body, got.headers)["type"] == "job.completed"
