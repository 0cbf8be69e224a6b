"""Batches through the whole product, with the built-in model."""

from __future__ import annotations

import io
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.product import running

pytestmark = pytest.mark.e2e

PICTURE = {"prompt": "a yellow circle on a blue background", "seed": 5, "width": 128, "height": 128, "steps": 20}


def made(api: httpx.Client, **more: Any) -> list[dict[str, Any]]:
    answer = api.post("/api/vision/generate", json={**PICTURE, **more})
    assert answer.status_code == 201, answer.text
    end = time.monotonic() + 90
    while time.monotonic() < end:
        jobs = [api.get(f"/api/vision/jobs/{job_id}").json() for job_id in answer.json()["job_ids"]]
        if all(job["status"] in ("completed", "failed") for job in jobs):
            return jobs
        time.sleep(0.05)
    raise AssertionError(jobs)


def pixels(api: httpx.Client, job: dict[str, Any]) -> Any:
    return np.asarray(Image.open(io.BytesIO(api.get(job["result"]["image_url"]).content)).convert("RGB")).astype(int)


def test_eight_pictures_in_batches_are_those_that_they_are_alone(tmp_path: Path) -> None:
    with running(tmp_path / "batches", FLEET_AGENT_BATCH="4") as product, product.client() as api:
        together = made(api, count=8)
        assert [job["status"] for job in together] == ["completed"] * 8, together
        sizes = Counter(job["result"]["batch"] for job in together)
        assert sizes == {4: 8}, "two batches of four"
        for number in (0, 7):
            [alone] = made(api, seed=PICTURE["seed"] + number)  # type: ignore[operator]
            assert alone["result"]["batch"] == 1
            assert np.abs(pixels(api, alone) - pixels(api, together[number])).max() <= 2
