from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import Cancelled, EngineError, ModelError, UnknownModel
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.metadata import read_metadata
from gpu_inference.engine.pipeline import Pipeline, to_picture
from gpu_inference.engine.request import parse_request
from gpu_inference.engine.samplers import SAMPLERS
from tests.support.tiny_model import make_tiny_model


def ask(**changes: Any) -> Any:
    return parse_request({"prompt": "a red circle", "width": 64, "height": 64, "steps": 5, "seed": 3, **changes})


def pixels(png: bytes) -> Any:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture).astype(int)


@pytest.mark.parametrize("scheduler", list(SAMPLERS))
def test_the_same_seed_is_the_same_picture_bit_for_bit(pipeline: Pipeline, tiny_model: Path, scheduler: str) -> None:
    first = pipeline.render(ask(scheduler=scheduler))
    pipeline.render(ask(scheduler="euler_a", prompt="something else", seed=99, steps=2))
    assert pipeline.render(ask(scheduler=scheduler)).png == first.png
    another = Pipeline.load(load_model_folder(tiny_model), threads=1)
    assert another.render(ask(scheduler=scheduler)).png == first.png
    assert pipeline.render(ask(scheduler=scheduler, seed=4)).png != first.png


def test_samplers_make_different_pictures(pipeline: Pipeline) -> None:
    made = {pixels(pipeline.render(ask(scheduler=scheduler)).png).tobytes() for scheduler in SAMPLERS}
    assert len(made) >= len(SAMPLERS) - 1  # Euler and DDIM are one method in two forms, and may round alike


def test_every_step_is_told(pipeline: Pipeline) -> None:
    told: list[tuple[int, int, str]] = []
    pipeline.render(ask(steps=4), lambda *what: told.append(what))
    assert told == [
        (0, 4, "encoding"),
        *[(step, 4, "denoising") for step in range(4)],
        (4, 4, "decoding"),
        (4, 4, "saving"),
    ]


@pytest.mark.parametrize("at", range(5))
def test_a_cancel_ends_before_the_next_step(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    made = []
    denoise = pipeline.backend.denoise

    def counting(latents: Any, timestep: float) -> Any:
        made.append(timestep)
        return denoise(latents, timestep)

    monkeypatch.setattr(pipeline.backend, "denoise", counting)
    with pytest.raises(Cancelled, match=f"cancelled after {at} of 5 steps"):
        pipeline.render(ask(), cancelled=lambda: len(made) >= at)
    assert len(made) == at
    monkeypatch.setattr(pipeline.backend, "denoise", denoise)
    assert pipeline.render(ask()).png


@pytest.mark.parametrize("at", range(9))
def test_a_cancel_is_seen_between_the_calls_of_a_step(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    made = []
    denoise = pipeline.backend.denoise
    monkeypatch.setattr(pipeline.backend, "denoise", lambda *what: made.append(1) or denoise(*what))
    with pytest.raises(Cancelled, match=f"cancelled after {at // 2} of 5 steps"):
        pipeline.render(ask(scheduler="heun"), cancelled=lambda: len(made) >= at)
    assert len(made) == at


def test_another_size_is_scaled_and_says_so(pipeline: Pipeline) -> None:
    rendered = pipeline.render(ask(width=512, height=256))
    assert pixels(rendered.png).shape == (256, 512, 3)
    result, data = rendered.result, read_metadata(rendered.png)
    assert (result.width, result.height, result.native_width, result.native_height, result.scaled) == (512, 256, 96, 48, True)
    assert data is not None
    assert (data["width"], data["native_width"], data["scaled"]) == (512, 96, True)
    assert result.warnings == []
    smaller = pixels(pipeline.render(ask(width=128, height=64)).png)
    reduced = np.asarray(Image.fromarray(pixels(rendered.png).astype(np.uint8)).resize((128, 64), Image.Resampling.BOX)).astype(int)
    assert np.abs(reduced - smaller).mean() < 3


def test_a_cut_is_warned_of(pipeline: Pipeline) -> None:
    assert pipeline.render(ask(width=2048, height=64)).result.warnings == [
        "The model has no native size of this aspect: 96 x 48 was rendered and 94 % of it cut off."
    ]


def test_a_long_prompt_is_warned_of(pipeline: Pipeline) -> None:
    warnings = pipeline.render(ask(prompt="x" * 10000)).result.warnings
    assert warnings == ["The prompts were cut: 9986 tokens did not fit into the 16 that the model reads."]


def test_the_picture_can_be_made_again_from_its_metadata(pipeline: Pipeline) -> None:
    rendered = pipeline.render(ask(prompt="☃ \x00 \ud83d", negative_prompt="no", guidance_scale=6.25, scheduler="euler_a", width=128))
    data = read_metadata(rendered.png)
    assert data is not None
    assert pipeline.render(parse_request(data)).png == rendered.png


@pytest.mark.parametrize("prompt", ["", "\x00", "\ud800", "🎨" * 3000, "a\nb\tc", "'; DROP TABLE jobs; --"])
def test_any_prompt_makes_a_picture(pipeline: Pipeline, prompt: str) -> None:
    assert pixels(pipeline.render(ask(prompt=prompt, negative_prompt=prompt, steps=1)).png).shape == (64, 64, 3)


def test_without_a_guidance_the_models_own_is_used(pipeline: Pipeline) -> None:
    assert pipeline.render(ask()).png == pipeline.render(ask(guidance_scale=4.0)).png
    assert pixels(pipeline.render(ask(guidance_scale=0)).png).tolist() == pixels(pipeline.render(ask(guidance_scale=1)).png).tolist()


def test_values_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(EngineError, match="not numbers"):
        to_picture(np.full((1, 3, 8, 8), np.nan, dtype=np.float32))


def test_the_range_is_clipped() -> None:
    decoded = np.array([-3.0, -1.0, 0.0, 1.0, 3.0], dtype=np.float32).reshape(1, 1, 1, 5).repeat(3, axis=1)
    assert np.asarray(to_picture(decoded))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_the_catalogue_loads_on_demand_and_frees_before(tiny_model: Path, slow_model: Path, tmp_path: Path) -> None:
    loaded = []

    def load(folder: Any) -> Pipeline:
        loaded.append(folder.name)
        return Pipeline.load(folder, 1)

    catalogue = Catalogue([tiny_model, tmp_path, slow_model], load)
    assert [info.name for info in catalogue.infos()] == ["tiny", "slow"]
    assert catalogue.infos()[0].native_size == 64
    assert len(catalogue.problems) == 1
    assert "holds no model" in catalogue.problems[0]
    assert catalogue.loaded is None
    first = catalogue.pipeline(None)
    assert catalogue.pipeline("tiny") is first
    catalogue.pipeline("slow")
    assert catalogue.loaded == "slow"
    assert loaded == ["tiny", "slow"]
    with pytest.raises(UnknownModel, match="'sdxl' is not on this node; there are: tiny, slow"):
        catalogue.pipeline("sdxl")
    with pytest.raises(ModelError, match="This node has no model"):
        Catalogue([tmp_path], load).pipeline(None)


def test_more_guidance_than_the_model_bears_is_limited_and_told(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "limited", guidance_limit=2.0)
    limited = Pipeline.load(load_model_folder(folder), threads=1)
    made = limited.render(ask(guidance_scale=7.5))
    assert pixels(made.png).tolist() == pixels(limited.render(ask(guidance_scale=2.0)).png).tolist()
    [warning] = made.result.warnings
    assert "guidance of 2" in warning
    assert "7.5" in warning
    assert read_metadata(made.png)["guidance_scale"] == 2.0
    assert limited.render(ask(guidance_scale=1.5)).result.warnings == []
