"""The shipped model folder is complete, small, and draws what it is asked to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.builtin_model.checker import look
from benchmarks.builtin_model.prompts import held_out
from benchmarks.builtin_model.renderer import Renderer
from benchmarks.builtin_model.verdict import judge
from gpu_inference.engine.tokenizer import Tokenizer

FOLDER = Path(__file__).resolve().parents[3] / "gpu_inference" / "builtin" / "model"
GRAPHS = {"text_encoder.onnx", "text_encoder_2.onnx", "unet.onnx", "vae_decoder.onnx"}


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(FOLDER, threads=1)


@pytest.fixture(scope="module")
def manifest() -> Any:
    return json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))


def test_folder_has_at_most_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 10_000_000


def test_checksums_cover_every_file_and_match(manifest: dict[str, Any]) -> None:
    files = {path.name for path in FOLDER.iterdir()} - {"manifest.json"}
    assert files == set(manifest["sha256"]) == GRAPHS | {"tokenizer.json", "unet.weights.json"}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("folder", [FOLDER, FOLDER.with_name("model_pastel")], ids=lambda folder: folder.name)
def test_nodes_have_names_of_their_own(folder: Path) -> None:
    """ONNX Runtime 1.19, the last for Python 3.8, refuses graphs whose nameless nodes it has fused."""
    for name in GRAPHS:
        names = [node.name for node in onnx.load(str(folder / name)).graph.node]
        assert "" not in names
        assert len(set(names)) == len(names)


def test_text_encoders_differ_in_width(manifest: dict[str, Any]) -> None:
    sessions = [onnxruntime.InferenceSession(str(FOLDER / entry["file"])) for entry in manifest["text_encoders"]]
    assert sorted(session.get_outputs()[0].shape[-1] for session in sessions) == [64, 80]


def test_tokeniser_keeps_listed_words_whole_and_spells_others(manifest: dict[str, Any]) -> None:
    tokenizer = Tokenizer(FOLDER / manifest["tokenizer"]["file"], manifest["tokenizer"]["max_length"])

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    assert encode("A  RED star\non a white background") == encode("a red star on a white background")
    assert len(encode("a red star")) == 5
    assert len(encode("zebra")) > 3
    assert len(encode("")) == 2
    assert encode("caf\u00e9") == encode("cafe\u0301")


@pytest.mark.parametrize("size", [(128, 128), (160, 96), (96, 160)])
def test_renders_every_native_size(renderer: Renderer, manifest: dict[str, Any], size: tuple[int, int]) -> None:
    assert list(size) in manifest["size_buckets"]
    (picture,) = renderer.render(["a red circle on a white background"], [1], size=size, steps=2)
    assert picture.shape == (size[1], size[0], 3)
    assert picture.dtype == np.uint8


def test_draws_prompts_it_was_never_trained_on(renderer: Renderer) -> None:
    asked = held_out()[::8]
    pictures = renderer.render([prompt.text for prompt in asked], [100 + k for k in range(len(asked))], steps=12)
    right = [judge(prompt, look(picture))["all"] for prompt, picture in zip(asked, pictures, strict=True)]
    assert sum(right) >= len(asked) - 1
