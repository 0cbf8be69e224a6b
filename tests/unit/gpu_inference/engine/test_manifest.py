from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.engine.errors import ModelError
from gpu_inference.engine.manifest import load_model_folder
from tests.support.tiny_model import manifest_for


def write(folder: Path, **changes: Any) -> Path:
    (folder / "manifest.json").write_text(json.dumps(manifest_for(folder, **changes)), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(str(tiny_model), str(tmp_path / "model")))


def test_a_sound_folder(folder: Path) -> None:
    model = load_model_folder(folder)
    model.verify()
    assert model.name == "tiny"
    assert model.size_bytes() == sum((folder / name).stat().st_size for name in model.manifest.files())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "format"),
        ({"prediction_type": "sample"}, "prediction_type"),
        ({"size_buckets": []}, "size_buckets"),
        ({"size_buckets": [[100, 64]]}, "100 x 64 is no multiple of 8"),
        ({"size_buckets": [[0, 64]]}, "0 x 64"),
        ({"time_ids": ["original_depth"]}, "time_ids names original_depth"),
        ({"unet": {"file": "../unet.onnx"}}, "unet.file"),
        ({"unet": {"file": "/etc/passwd"}}, "unet.file"),
        ({"unet": {"file": "other.onnx"}}, "sha256 lacks other.onnx"),
        ({"text_encoders": []}, "text_encoders"),
        ({"name": ""}, "name"),
        ({"vae_scaling_factor": 0}, "vae_scaling_factor"),
    ],
)
def test_a_manifest_that_is_wrong_is_named(folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model_folder(write(folder, **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_pooled_outputs_are_one_too_many(folder: Path) -> None:
    encoder = {"file": "text_encoder_2.onnx", "pad_token_id": 0, "hidden_output": "h", "pooled_output": "text_embeds"}
    with pytest.raises(ModelError, match="exactly one text encoder"):
        load_model_folder(write(folder, text_encoders=[encoder, encoder]))


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "unet.onnx").unlink()
    with pytest.raises(ModelError, match=r"lacks the file unet\.onnx"):
        load_model_folder(folder)


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model: manifest\.json cannot be read"):
        load_model_folder(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_manifest_that_is_no_object(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ModelError, match="manifest"):
        load_model_folder(folder)


def test_a_damaged_file_is_found_before_it_is_loaded(folder: Path) -> None:
    content = bytearray((folder / "unet.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "unet.onnx").write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"unet\.onnx of model 'tiny' is damaged"):
        load_model_folder(folder).verify()
