from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gpu_inference.engine.metadata import parameters_text, read_metadata, write_png


def data(**changes: Any) -> dict[str, Any]:
    values = {
        "prompt": "a red circle",
        "negative_prompt": "",
        "width": 512,
        "height": 256,
        "steps": 20,
        "guidance_scale": 7.5,
        "seed": 42,
        "scheduler": "dpm++_2m",
        "model": "fleet-shapes",
        "model_hash": "0123456789abcdef",
        "native_width": 128,
        "native_height": 64,
        "version": "0.1.0",
    }
    return {**values, **changes}


def picture() -> Image.Image:
    return Image.new("RGB", (8, 8), (1, 2, 3))


def test_parameters_are_worded_as_usual() -> None:
    text = parameters_text(data(negative_prompt="blurry"))
    assert text.splitlines() == [
        "a red circle",
        "Negative prompt: blurry",
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 42, Size: 512x256, Model hash: 0123456789, "
        "Model: fleet-shapes, Native size: 128x64, Version: fleet-worker 0.1.0",
    ]


def test_a_negative_prompt_that_is_empty_has_no_line() -> None:
    assert "Negative" not in parameters_text(data())


@pytest.mark.parametrize(
    "prompt", ["", "plain", "two\nlines", "ünïcödé ☃ 🎨", "nul \x00 inside", "half \ud83d pair", "\u202e reversed", "x" * 10000]
)
def test_every_prompt_comes_back(prompt: str) -> None:
    given_data = data(prompt=prompt)
    png = write_png(picture(), given_data)
    assert read_metadata(png) == {**given_data, "format": 1}
    with Image.open(io.BytesIO(png)) as again:
        again.load()
        assert again.tobytes() == picture().tobytes()
        assert "\x00" not in again.info["parameters"]
        assert again.info["parameters"].endswith("Version: fleet-worker 0.1.0")


@settings(max_examples=60, deadline=None)
@given(prompt=st.text(st.characters(), max_size=80), negative=st.text(st.characters(), max_size=80), seed=st.integers(0, 2**63 - 1))
def test_any_text_comes_back(prompt: str, negative: str, seed: int) -> None:
    given_data = data(prompt=prompt, negative_prompt=negative, seed=seed)
    assert read_metadata(write_png(picture(), given_data)) == {**given_data, "format": 1}


def test_what_is_no_picture_of_ours_has_no_metadata() -> None:
    plain = io.BytesIO()
    picture().save(plain, format="PNG")
    assert read_metadata(plain.getvalue()) is None
    assert read_metadata(b"") is None
    assert read_metadata(b"\x89PNG\r\n\x1a\n" + b"x" * 50) is None
    jpeg = io.BytesIO()
    picture().save(jpeg, format="JPEG")
    assert read_metadata(jpeg.getvalue()) is None


def test_metadata_that_is_not_an_object_is_left() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("fleet", json.dumps([1]))
    buffer = io.BytesIO()
    picture().save(buffer, format="PNG", pnginfo=info)
    assert read_metadata(buffer.getvalue()) is None
