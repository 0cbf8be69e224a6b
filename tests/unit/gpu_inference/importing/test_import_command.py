"""``fleet-worker import``: what it makes, what it says, and what it refuses, with nothing left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gpu_inference.agent.cli import main
from gpu_inference.engine.errors import EngineError
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request
from gpu_inference.importing import tokenizer
from gpu_inference.importing.single_file import SingleFile
from gpu_inference.importing.source import CannotImport
from tests.support.sdxl_numpy import import_tiny, write_tiny

UNET_OUT = "model.diffusion_model.out.2.weight"


def run(path: Path, target: Path, *more: str) -> int:
    vocabulary = str(path.parent / "vocabulary")
    return main(["import", str(path), "--out", str(target), "--tokenizer", vocabulary, "--native-size", "128", *more])


def test_it_makes_a_model_that_renders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny(tmp_path / "x.safetensors", metadata={"modelspec.license": "CreativeML Open RAIL++-M"})
    assert run(path, tmp_path / "models" / "tiny") == 0
    assert "try: fleet-worker render" in capsys.readouterr().out
    manifest = load_model_folder(tmp_path / "models" / "tiny").manifest
    assert (manifest.name, manifest.license, manifest.prediction_type) == ("tiny", "CreativeML Open RAIL++-M", "epsilon")
    assert (
        main(
            [
                "render",
                "red",
                "--model",
                str(tmp_path / "models" / "tiny"),
                "--size",
                "128x128",
                "--steps",
                "1",
                "-o",
                str(tmp_path / "a.png"),
            ]
        )
        == 0
    )
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_every_graph_is_sound_and_that_for_tensorrt_has_standard_operations_alone(tmp_path: Path) -> None:
    folder = import_tiny(tmp_path / "model")
    graphs = sorted(folder.glob("*.onnx"))
    assert len(graphs) == 11
    for path in graphs:
        onnx.checker.check_model(str(path))
        model = onnx.load(str(path), load_external_data=False)
        if ".tensorrt." in path.name:
            assert {node.domain for node in model.graph.node} == {""}
            assert not any(node.op_type in ("LayerNormalization", "Gelu") for node in model.graph.node)
    half = onnx.load(str(folder / "unet.half.onnx"), load_external_data=False)
    weights = {tensor.name for tensor in half.graph.initializer if tensor.external_data}
    assert not any(node.op_type == "Cast" and node.input[0] in weights for node in half.graph.node), "weights are taken as they are stored"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "is no sound safetensors file"),
        (lambda path: path.write_bytes(b""), "is no sound safetensors file"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + b"0" * 100), "is no sound safetensors file"),
        (lambda path: path.unlink(), "There is no file"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Any, words: str) -> None:
    path = write_tiny(tmp_path / "x.safetensors")
    make(path)
    assert run(path, tmp_path / "out" / "tiny") == 5
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("spelling", ["scale_weight", "weight_scale"])
def test_a_scaled_weight_is_multiplied_whatever_its_scale_is_called(tmp_path: Path, spelling: str) -> None:
    plain = SingleFile(write_tiny(tmp_path / "plain.safetensors")).tensor("unet", "conv_out.weight")
    scale = UNET_OUT[: -len("weight")] + spelling
    path = write_tiny(tmp_path / "x.safetensors", {UNET_OUT: plain.astype(np.float32) / 4, scale: np.full((1,), 4.0)}, dtype="F32")
    np.testing.assert_array_equal(SingleFile(path).tensor("unet", "conv_out.weight"), plain)
    path = write_tiny(tmp_path / "y.safetensors", {scale: np.ones(4)})
    with pytest.raises(CannotImport, match=f"has a scale '{scale}' that is more than one number"):
        SingleFile(path).tensor("unet", "conv_out.weight")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {UNET_OUT[: -len("weight")] + "comfy_quant": np.ones(4)},
            "is quantized as its tensor 'model.diffusion_model.out.2.comfy_quant' says",
        ),
        ({UNET_OUT: np.full((4, 64, 3, 3), np.inf)}, "'conv_out.weight' of the unet holds values that are not numbers"),
        ({"first_stage_model.decoder.conv_in.weight": None}, "lacks the tensor 'first_stage_model.decoder.conv_in.weight'"),
        ({"first_stage_model.decoder.norm_out.bias": None}, "lacks a tensor of SDXL: 'decoder.conv_norm_out.bias'"),
        ({"lora_unet_x.lora_up.weight": np.ones(2)}, "is a LoRA; upload it with --lora"),
        ({"conditioner.embedders.1.model.text_projection": None}, "lacks the tensor"),
        ({"model.diffusion_model.input_blocks.0.0.weight": np.ones((65, 4, 3, 3))}, "The checkpoint's networks do not fit together"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    path = write_tiny(tmp_path / "x.safetensors", changes)
    assert run(path, tmp_path / "out" / "tiny") == 5
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
    assert not list((tmp_path / "out").iterdir())


def test_numbers_too_large_for_half_precision_want_single(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = {UNET_OUT: np.full((4, 64, 3, 3), 1e6, dtype=np.float32)}
    path = write_tiny(tmp_path / "x.safetensors", large, dtype="F32")
    assert run(path, tmp_path / "a") == 5
    assert "does not fit into half precision; import it with fp32" in capsys.readouterr().err
    assert run(path, tmp_path / "a", "--precision", "fp32") == 0


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny(tmp_path / "x.safetensors")
    (tmp_path / "there").mkdir()
    assert run(path, tmp_path / "there") == 5
    assert "There is a folder" in capsys.readouterr().err
    assert not list((tmp_path / "there").iterdir())


def test_without_a_vocabulary_it_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "_packaged", lambda: None)
    path = write_tiny(tmp_path / "x.safetensors")
    assert main(["import", str(path), "--out", str(tmp_path / "a")]) == 5
    assert "pip install --no-deps open_clip_torch" in capsys.readouterr().err


def test_clip_s_own_vocabulary_is_that_of_the_package() -> None:
    """49,408 tokens, of which some are known from CLIP's publication."""
    place = tokenizer._packaged()
    assert place is not None, "make .venv installs it"
    vocabulary, merges = tokenizer._read(place)
    assert (len(vocabulary), len(merges)) == (49408, 48894)
    made = tokenizer.build(vocabulary, merges)
    assert made.encode("a photo of a cat").ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_another_model_s_tokenizer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny(tmp_path / "x.safetensors")
    assert main(["import", str(path), "--out", str(tmp_path / "a")]) == 5
    assert "The tokenizer knows 49408 tokens and a text encoder" in capsys.readouterr().err


def test_kept_weights_stay_in_their_file_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = load_model_folder(import_tiny(tmp_path / "model"))
    request = parse_request({"prompt": "red", "negative_prompt": "blue", "width": 128, "height": 128, "steps": 2, "seed": 1})
    plain = Pipeline.load(folder, 1, "onnx").render(request).png
    monkeypatch.setattr("gpu_inference.engine.backends.onnx_sessions.KEPT_HALF", 0)
    kept = Pipeline.load(folder, 1, "onnx")
    first, second = kept.render(request).png, kept.render(request).png
    assert first == second
    assert set(kept.backend._brief) == {"text_encoder", "text_encoder_2"}  # type: ignore[attr-defined]
    assert np.abs(_pixels(first) - _pixels(plain)).max() <= 1


def _pixels(png: bytes) -> Any:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "unet.onnx").write_bytes((folder / "unet.onnx").read_bytes()[:-50]),
        lambda folder: (folder / "unet.weights").write_bytes((folder / "unet.weights").read_bytes()[:-50]),
        lambda folder: (folder / "unet.weights").unlink(),
        lambda folder: _lie(folder, unet={"file": "../../etc/passwd"}),
        lambda folder: _lie(folder, time_ids=["original_height", "colour"]),
        lambda folder: _lie(folder, size_buckets=[[100, 100]]),
        lambda folder: _lie(folder, text_encoders=[]),
        lambda folder: (folder / "manifest.json").write_text("{"),
    ],
)
def test_a_damaged_model_or_a_manifest_that_lies_is_one_sentence(tmp_path: Path, damage: Any) -> None:
    path = import_tiny(tmp_path / "model")
    damage(path)
    with pytest.raises(EngineError) as caught:
        Pipeline.load(load_model_folder(path), 1)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_lies_of_sizes_ends_the_job_with_a_sentence(tmp_path: Path) -> None:
    path = import_tiny(tmp_path / "model")
    _lie(path, latent_channels=8)
    pipeline = Pipeline.load(load_model_folder(path), 1, "onnx")
    with pytest.raises(EngineError, match="ONNX Runtime failed") as caught:
        pipeline.render(parse_request({"prompt": "red", "width": 128, "height": 128, "steps": 1}))
    assert "\n" not in str(caught.value)


def test_a_graph_that_reads_a_file_outside_its_folder_is_refused(tmp_path: Path) -> None:
    """External data may name any path: ONNX Runtime must not follow it out of the model's folder."""
    path = import_tiny(tmp_path / "model")
    outside = tmp_path / "outside.weights"
    shutil.copy(path / "unet.weights", outside)
    graph = onnx.load(str(path / "unet.onnx"), load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.weights"
    onnx.save(graph, str(path / "unet.onnx"))
    _lie(path, renewed="unet.onnx")
    with pytest.raises(EngineError):
        Pipeline.load(load_model_folder(path), 1, "onnx")


def _lie(folder: Path, renewed: str = "", **changes: Any) -> None:
    """Changes the manifest; ``renewed`` names a file whose checksum is made right."""
    import hashlib

    said = json.loads((folder / "manifest.json").read_text())
    for key, value in changes.items():
        said[key] = {**said[key], **value} if isinstance(value, dict) else value
    if renewed:
        said["sha256"][renewed] = hashlib.sha256((folder / renewed).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(said))


@pytest.mark.parametrize(("asked", "made"), [({}, 3), ({"steps": 20, "steps_default": True}, 3), ({"steps": 2}, 2)])
def test_a_model_s_own_steps_are_taken_where_nobody_asks_for_others(tmp_path: Path, asked: dict[str, Any], made: int) -> None:
    folder = load_model_folder(import_tiny(tmp_path / "model", steps=3))
    request = parse_request({"prompt": "red", "width": 128, "height": 128, **asked})
    assert Pipeline.load(folder, 1, "onnx").render(request).result.steps == made
