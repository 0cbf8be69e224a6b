"""Several LoRAs at once: from a payload to a picture, and back from its metadata."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import BadRequest, UnknownLora
from gpu_inference.engine.metadata import read_metadata
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request
from tests.support.tiny_model import lora_tensors, make_tiny_lora, make_tiny_model

PICTURE = {"prompt": "a", "width": 64, "height": 64, "steps": 2, "seed": 3, "model": "tiny"}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    make_tiny_model(tmp_path / "model")
    for seed, name in enumerate(("one", "two")):
        make_tiny_lora(tmp_path / "loras" / f"{name}.safetensors", lora_tensors(seed), name=name)
    return Catalogue([tmp_path], lambda folder: Pipeline.load(folder, 1))


def png(catalogue: Catalogue, **payload: Any) -> bytes:
    request = parse_request({**PICTURE, **payload})
    return catalogue.pipeline(request.model).render(request, loras=catalogue.applied(request)).png


def test_they_add_up_in_any_order(catalogue: Catalogue) -> None:
    plain = png(catalogue)
    one = png(catalogue, lora="one", lora_strength=0.5)
    both = png(catalogue, lora="one", lora_strength=0.5, loras=[{"name": "two", "strength": 0.3}])
    swapped = png(catalogue, loras=[{"name": "two", "strength": 0.3}, {"name": "one", "strength": 0.5}])
    pixels = [_pixels(each) for each in (plain, one, both)]
    assert not any((a == b).all() for a, b in itertools.pairwise(pixels))
    assert abs(_pixels(both) - _pixels(swapped)).max() <= 1
    assert (_pixels(png(catalogue)) == _pixels(plain)).all()


def test_the_metadata_make_it_again(catalogue: Catalogue) -> None:
    made = png(catalogue, lora="one", lora_strength=0.5, loras=[{"name": "two"}])
    said = read_metadata(made)
    assert said is not None
    assert (said["lora"], said["lora_strength"], said["loras"]) == ("one", 0.5, [{"name": "two", "strength": 0.8}])
    again = png(catalogue, **{name: said[name] for name in ("lora", "lora_strength", "loras")})
    assert (_pixels(again) == _pixels(made)).all()


@pytest.mark.parametrize(
    ("loras", "words"),
    [
        ("two", "loras must be a list of up to 8"),
        ([{"name": "two"}] * 9, "loras must be a list of up to 8"),
        (["two"], "loras must be a list of up to 8"),
        ([{"strength": 1}], "needs a name"),
        ([{"name": "two", "strength": 5}], "strength must be a number from -4 to 4"),
        ([{"name": 5}], "name must be text"),
    ],
)
def test_a_list_that_is_wrong_is_one_sentence(catalogue: Catalogue, loras: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        png(catalogue, loras=loras)


def test_one_that_is_not_there(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownLora, match="'three' is not on this node"):
        png(catalogue, lora="one", loras=[{"name": "three"}])


def _pixels(data: bytes) -> Any:
    import io

    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data))).astype(int)
