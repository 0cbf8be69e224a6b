"""The shipped model folder is complete, small, and draws what it is asked to."""

import hashlib
import json
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
pytest.importorskip("tokenizers")

from benchmarks.builtin_model.checker import look  # noqa: E402
from benchmarks.builtin_model.prompts import held_out  # noqa: E402
from benchmarks.builtin_model.renderer import Renderer  # noqa: E402
from benchmarks.builtin_model.verdict import judge  # noqa: E402

FOLDER = Path(__file__).resolve().parents[3] / "gpu_inference" / "builtin" / "model"
GRAPHS = {"text_encoder.onnx", "text_encoder_2.onnx", "unet.onnx", "vae_decoder.onnx"}


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(FOLDER, threads=1)


@pytest.fixture(scope="module")
def manifest() -> dict:
    return json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))


def test_folder_has_at_most_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 10_000_000


def test_checksums_cover_every_file_and_match(manifest) -> None:
    files = {path.name for path in FOLDER.iterdir()} - {"manifest.json"}
    assert files == set(manifest["sha256"]) == GRAPHS | {"tokenizer.json"}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest


def test_text_encoders_differ_in_width(renderer) -> None:
    widths = [session.get_outputs()[0].shape[-1] for session, _ in renderer.encoders]
    assert sorted(widths) == [64, 80]


def test_tokeniser_keeps_listed_words_whole_and_spells_others(renderer) -> None:
    encode = renderer.tokenizer.encode
    assert encode("A  RED star\non a white background").tokens == encode("a red star on a white background").tokens
    assert len(encode("a red star").ids) == 5
    assert len(encode("zebra").ids) > 3
    assert len(encode("").ids) == 2
    assert encode("caf\u00e9").ids == encode("cafe\u0301").ids


@pytest.mark.parametrize("index", [0, 1])
def test_long_prompts_are_cut_and_keep_the_end_token(renderer, index) -> None:
    row = renderer._tokens(["red star " * 100], renderer.encoders[index][1])[0]
    assert len(row) == renderer.length
    assert row[-1] == renderer.tokenizer.encode("").ids[-1]


@pytest.mark.parametrize("size", [(128, 128), (160, 96), (96, 160)])
def test_renders_every_native_size(renderer, manifest, size) -> None:
    assert list(size) in manifest["size_buckets"]
    (picture,) = renderer.render(["a red circle on a white background"], [1], size=size, steps=2)
    assert picture.shape == (size[1], size[0], 3)
    assert picture.dtype == np.uint8


def test_same_seed_gives_the_same_picture_alone_or_in_a_batch(renderer) -> None:
    text = "a blue square on a red background"
    alone = renderer.render([text], [7], steps=4)[0].astype(int)
    batch = renderer.render(["a star", text], [3, 7], steps=4)[1].astype(int)
    assert np.abs(alone - batch).max() <= 1


def test_draws_prompts_it_was_never_trained_on(renderer) -> None:
    asked = held_out()[::8]
    pictures = renderer.render([prompt.text for prompt in asked], [100 + k for k in range(len(asked))], steps=12)
    right = [judge(prompt, look(picture))["all"] for prompt, picture in zip(asked, pictures, strict=True)]
    assert sum(right) >= len(asked) - 1
