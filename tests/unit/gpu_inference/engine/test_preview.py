"""Small pictures of a picture in the making."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.preview import SDXL_FACTORS, Previewer, colours, jpeg
from gpu_inference.engine.request import parse_request
from gpu_inference.engine.schedule import NoiseSchedule
from tests.support.tiny_model import make_tiny_model

PAYLOAD = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 12, "seed": 3, "preview_every": 3}


def test_colours_are_a_linear_map() -> None:
    latents = np.zeros((4, 2, 3), np.float32)
    latents[0] = 1.0
    shown = colours(latents, SDXL_FACTORS)
    assert shown.shape == (2, 3, 3)
    assert shown[0, 0].tolist() == [int(value * 127.5 + 127.5) for value in SDXL_FACTORS[0]]
    with_sum = colours(latents, [*SDXL_FACTORS, (1.0, -2.0, 0.0)])
    assert with_sum[0, 0].tolist()[:2] == [255, 0]
    assert colours(np.full((4, 1, 1), np.nan, np.float32), SDXL_FACTORS).tolist() == [[[127, 127, 127]]]


@pytest.mark.parametrize(("shape", "size"), [((8, 8), (128, 128)), ((128, 96), (96, 128)), ((512, 256), (128, 256))])
def test_a_preview_is_small_and_not_tiny(shape: tuple[int, int], size: tuple[int, int]) -> None:
    data = jpeg(np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32), SDXL_FACTORS)
    assert Image.open(io.BytesIO(data)).size == size
    assert len(data) < 64 * 1024


def test_every_so_many_steps_and_at_most_two_a_second() -> None:
    now, sent = 0.0, []
    previewer = Previewer(3, lambda step, _: sent.append((step, now)), lambda: now)
    for step in range(1, 40):
        now += 0.125
        if previewer.due(step):
            previewer.show(step, np.zeros((4, 8, 8), np.float32), None)
    assert [step for step, _ in sent] == list(range(4, 40, 4))
    now = 100.0
    assert not Previewer(3, lambda *_: None, lambda: now).due(3), "not at once"


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_clean_picture_is_found_from_a_true_prediction(tmp_path: Path, kind: str) -> None:
    folder = load_model_folder(make_tiny_model(tmp_path / "m", prediction_type=kind, zero_terminal_snr=False))
    schedule = NoiseSchedule(folder.manifest)
    rng = np.random.default_rng(1)
    clean, noise = rng.standard_normal((2, 1, 4, 8, 8)).astype(np.float32)
    for timestep in (10.0, 500.0, 999.0):
        alpha = schedule.alphas_cumprod[int(timestep)]
        shown = np.sqrt(alpha) * clean + np.sqrt(1 - alpha) * noise
        said = noise if kind == "epsilon" else np.sqrt(alpha) * noise - np.sqrt(1 - alpha) * clean
        assert schedule.clean(shown, said, timestep) == pytest.approx(clean, abs=1e-3)


def test_they_change_nothing_of_the_picture(pipeline: Pipeline) -> None:
    request = parse_request(PAYLOAD)
    seen: list[int] = []
    clock = iter(range(1000))
    plain = pipeline.render(replace(request, preview_every=0))
    shown = pipeline.render(request, preview=Previewer(3, lambda step, _: seen.append(step), lambda: float(next(clock))))
    assert shown.png == plain.png
    assert seen == [3, 6, 9], "the last step's is the picture itself"
