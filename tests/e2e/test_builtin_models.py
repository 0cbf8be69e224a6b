"""The built-in chapter of models through the whole product: another palette, a LoRA, and every sampler."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.product import Product, running

pytestmark = pytest.mark.e2e

PICTURE = {"prompt": "a yellow circle on a blue background", "seed": 5, "width": 128, "height": 128}
SAMPLERS = ["euler", "euler_a", "dpm++_2m", "dpm++_2m_karras", "ddim", "lms", "heun", "dpm_fast"]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("variants") / "home") as found:
        yield found


@pytest.fixture(scope="module")
def api(product: Product) -> Iterator[httpx.Client]:
    with product.client() as client:
        yield client


def picture(api: httpx.Client, **more: object) -> np.ndarray:
    """Make a picture by way of the queue; return it as height x width x 3."""
    answer = api.post("/api/vision/generate", json={**PICTURE, **more})
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = {}
    while job.get("status") not in ("completed", "failed"):
        job = api.get(f"/api/vision/jobs/{answer.json()['job_id']}").json()
    assert job["status"] == "completed", job
    return np.asarray(Image.open(io.BytesIO(api.get(job["result"]["image_url"]).content)).convert("RGB")).astype(float)


def background(image: np.ndarray) -> np.ndarray:
    """Return the mean colour of the corners."""
    return np.concatenate([image[:16, :16], image[-16:, -16:]]).mean(axis=(0, 1))


def test_the_palette_is_another_one(api: httpx.Client) -> None:
    plain, pastel = (background(picture(api, model=model)) for model in ("fleet-shapes", "fleet-shapes-pastel"))
    assert plain[2] > 180
    assert plain[0] < 80
    assert pastel[0] > plain[0] + 50, "the same words, and a paler blue"


def test_the_lora_makes_night_and_its_strength_counts(api: httpx.Client) -> None:
    night = background(picture(api, lora="night"))
    assert night.max() < 60
    without, nothing = picture(api), picture(api, lora="night", lora_strength=0)
    assert (without == nothing).all(), "strength 0 is no LoRA at all"
    assert (picture(api) == without).all(), "it leaves the model as it was"


def test_every_sampler_is_served_and_paints_what_was_asked(api: httpx.Client) -> None:
    assert api.get("/api/vision/schedulers").json()["schedulers"] == SAMPLERS
    for sampler in SAMPLERS:
        image = picture(api, scheduler=sampler)
        assert background(image)[2] > 150, sampler
        red, green, blue = image[56:72, 56:72].mean(axis=(0, 1))
        assert min(red, green) > blue + 60, (sampler, "a yellow middle")
