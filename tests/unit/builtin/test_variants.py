"""The built-in model's variants: another palette, and a LoRA that makes night."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from benchmarks.builtin_model.checker import look
from benchmarks.builtin_model.colours import PASTEL, name_pastel
from benchmarks.builtin_model.prompts import by_night, held_out
from benchmarks.builtin_model.verdict import judge
from gpu_inference.builtin.training.vocabulary import PALETTES
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import BadRequest
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request
from gpu_inference.engine.samplers import SAMPLERS

BUILTIN = Path(__file__).resolve().parents[3] / "gpu_inference" / "builtin"
Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def catalogue() -> Iterator[Catalogue]:
    catalogue = Catalogue([BUILTIN], lambda folder: Pipeline.load(folder, 1))
    yield catalogue
    catalogue.close()


def draw(catalogue: Catalogue, prompt: str, **changes: Any) -> Picture:
    request = parse_request({"prompt": prompt, "width": 128, "height": 128, "steps": 8, "seed": 5, **changes})
    made = catalogue.pipeline(request.model).render(request, loras=catalogue.applied(request))
    return np.asarray(Image.open(io.BytesIO(made.png)).convert("RGB"))


def ground(picture: Picture) -> Any:
    """The mean colour of the corners."""
    return np.concatenate([picture[:12, :12], picture[-12:, -12:]]).reshape(-1, 3).mean(axis=0)


def middle(picture: Picture) -> Any:
    return picture[58:70, 58:70].reshape(-1, 3).mean(axis=0)


def test_the_catalogue_has_them_and_the_first_is_the_default(catalogue: Catalogue) -> None:
    assert [info.name for info in catalogue.infos()] == ["fleet-shapes", "fleet-shapes-pastel"]
    assert [(info.name, info.base_model) for info in catalogue.lora_infos()] == [("night", "fleet-shapes")]
    assert catalogue.problems == []
    assert all(info.size_bytes < 10_000_000 for info in catalogue.infos())
    assert catalogue.lora_infos()[0].size_bytes < 500_000


def test_only_the_decoder_of_the_pastel_model_is_another() -> None:
    standard, pastel = (json.loads((BUILTIN / name / "manifest.json").read_text()) for name in ("model", "model_pastel"))
    assert {name for name, digest in standard["sha256"].items() if pastel["sha256"][name] != digest} == {"vae_decoder.onnx"}
    assert {key for key in standard if standard[key] != pastel[key]} == {"name", "preview_factors", "sha256"}


def test_the_same_words_mean_other_colours(catalogue: Catalogue) -> None:
    for colour, background in (("red", "blue"), ("green", "white")):
        prompt = f"a {colour} circle on a {background} background"
        for model, palette in (("fleet-shapes", "standard"), ("fleet-shapes-pastel", "pastel")):
            picture = draw(catalogue, prompt, model=model)
            assert np.abs(middle(picture) - PALETTES[palette][colour]).max() < 25
            assert np.abs(ground(picture) - PALETTES[palette][background]).max() < 25


def test_the_checkers_pastels_are_those_of_the_training_and_lie_apart() -> None:
    assert PALETTES["pastel"] == PASTEL
    for name, rgb in PASTEL.items():
        assert name_pastel(rgb) == name
        assert name_pastel([channel + 10 for channel in rgb]) == name
    assert name_pastel((0, 255, 0)) == "unclear"


@pytest.mark.parametrize("strength", [0.8, 1.0])
def test_the_lora_makes_night(catalogue: Catalogue, strength: float) -> None:
    for prompt in held_out()[::12]:
        bright = draw(catalogue, prompt.text)
        dark = draw(catalogue, prompt.text, lora="night", lora_strength=strength)
        assert ground(dark).max() < 40
        assert prompt.background == "black" or ground(bright).max() > 100
        assert judge(by_night(prompt), look(dark))["colour"]


def test_at_strength_zero_nothing_changes(catalogue: Catalogue) -> None:
    prompt = "a red star on a white background"
    np.testing.assert_array_equal(draw(catalogue, prompt, lora="night", lora_strength=0), draw(catalogue, prompt))


def test_it_is_for_one_model(catalogue: Catalogue) -> None:
    with pytest.raises(BadRequest, match="'night' is for the model 'fleet-shapes' and cannot be used with 'fleet-shapes-pastel'"):
        draw(catalogue, "a red star", lora="night", model="fleet-shapes-pastel")


def test_every_sampler_makes_the_same_picture_twice_and_another_than_the_rest(catalogue: Catalogue) -> None:
    made = {name: draw(catalogue, "a red circle on a blue background", scheduler=name, steps=4) for name in SAMPLERS}
    for name, picture in made.items():
        np.testing.assert_array_equal(draw(catalogue, "a red circle on a blue background", scheduler=name, steps=4), picture)
    pictures = {picture.tobytes() for picture in made.values()}
    assert len(pictures) >= len(SAMPLERS) - 1  # DDIM and Euler are one method in two forms, and may round alike


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_every_sampler_draws_what_is_asked(catalogue: Catalogue, name: str) -> None:
    prompt = held_out()[0]
    assert judge(prompt, look(draw(catalogue, prompt.text, scheduler=name, steps=20)))["all"]
