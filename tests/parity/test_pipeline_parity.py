"""Our pipeline beside diffusers' SDXL pipeline: the same weights, prompt and noise give the same picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpu_inference.engine import noise
from gpu_inference.engine.conditioning import guidance_rescale
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def twins(libraries: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, Any]:
    from tests.support.sdxl_twin import build_twin

    folder: Path = tmp_path_factory.mktemp("twin")
    theirs = build_twin(folder)
    return Pipeline.load(load_model_folder(folder), threads=1), theirs


@pytest.mark.parametrize("sampler", ["euler", "dpm++_2m"])
@pytest.mark.parametrize(("width", "height"), [(128, 128), (160, 96)])
@pytest.mark.parametrize("guidance", [1.0, 4.0, 7.5])
def test_the_same_picture(libraries: Any, twins: tuple[Pipeline, Any], sampler: str, width: int, height: int, guidance: float) -> None:
    from tests.support.sdxl_twin import scheduler_of

    torch, _ = libraries
    ours, theirs = twins
    manifest = ours.folder.manifest
    prompt, negative = "a red circle above a blue square, zzyzx 7", "blurry, bad quality"
    request = {
        "prompt": prompt,
        "negative_prompt": negative,
        "width": width,
        "height": height,
        "steps": 6,
        "seed": 11,
        "guidance_scale": guidance,
        "scheduler": sampler,
    }
    mine = np.asarray(Image.open(io.BytesIO(ours.render(parse_request(request)).png))).astype(int)
    theirs.scheduler = scheduler_of(sampler, manifest)
    other = theirs(
        prompt=prompt,
        negative_prompt=negative,
        width=width,
        height=height,
        num_inference_steps=6,
        guidance_scale=guidance,
        guidance_rescale=guidance_rescale(manifest, guidance),
        latents=torch.from_numpy(noise.normal(11, 0, (1, 4, height // 8, width // 8))),
        output_type="pil",
    ).images[0]
    assert np.abs(mine - np.asarray(other).astype(int)).max() <= 1
    assert mine.std() > 1
