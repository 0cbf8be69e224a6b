"""``fleet-worker render``, without a control plane."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_inference.agent.cli import main
from gpu_inference.engine import pipeline
from gpu_inference.engine.backends.onnx import OnnxBackend
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.metadata import read_metadata


def render(model: Path, output: Path, *arguments: str) -> int:
    return main(["render", *arguments, "--model", str(model), "--threads", "1", "-o", str(output)])


def test_a_picture_and_the_same_again(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = tmp_path / "first.png", tmp_path / "again.png", tmp_path / "other.png"
    options = ["a red circle", "--negative", "blurry", "--size", "192x96", "--steps", "3", "--guidance", "5", "--scheduler", "euler_a"]
    assert render(tiny_model, first, *options) == 0
    assert "192 x 96, seed " in capsys.readouterr().out
    assert render(tiny_model, again, "--like", str(first)) == 0
    assert again.read_bytes() == first.read_bytes()
    assert render(tiny_model, other, "--like", str(first), "--size", "64x128") == 0
    data = read_metadata(other.read_bytes())
    assert data is not None
    assert (data["prompt"], data["width"], data["scheduler"]) == ("a red circle", 64, "euler_a")
    assert np.asarray(Image.open(io.BytesIO(other.read_bytes()))).shape == (128, 64, 3)


def test_the_built_in_model_whatever_the_settings_name(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_AGENT_MODELS", str(tiny_model))
    assert render(Path("builtin"), tmp_path / "picture.png", "red", "--size", "64x64", "--steps", "1") == 0
    data = read_metadata((tmp_path / "picture.png").read_bytes())
    assert data is not None
    assert data["model"] == "fleet-shapes"


def test_the_backend_of_the_settings(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def opened(name: str, folder: ModelFolder, threads: int) -> OnnxBackend:
        asked.append(name)
        return OnnxBackend(folder, threads)

    monkeypatch.setattr(pipeline, "open_backend", opened)
    for backend in ("auto", "onnx"):
        monkeypatch.setenv("FLEET_AGENT_BACKEND", backend)
        assert render(tiny_model, tmp_path / "picture.png", "red", "--size", "64x64", "--steps", "1") == 0
    assert asked == ["auto", "onnx"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x", "--size", "7x64"], "The value of width must be a whole number from 64 to 2048 in multiples of 8, and 7 was given."),
        (["x", "--size", "big"], "The size must be WIDTHxHEIGHT in pixels, such as 512x512, and 'big' was given."),
        (
            ["x", "--scheduler", "plms"],
            "The scheduler 'plms' is not known; there are: euler, euler_a, dpm++_2m, dpm++_2m_karras, ddim, lms, heun, dpm_fast.",
        ),
        (["x", "--guidance", "nan"], "The value of guidance_scale must be a number from 0 to 30, and nan was given."),
        (["--like", "/nowhere.png"], "The picture /nowhere.png cannot be read (No such file or directory)."),
    ],
)
def test_a_mistake_is_one_sentence(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert render(tiny_model, tmp_path / "out.png", *arguments) == 5
    assert capsys.readouterr().err == sentence + "\n"
    assert not (tmp_path / "out.png").exists()


def test_a_picture_that_says_nothing_and_a_folder_that_is_none(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert render(tiny_model, tmp_path / "out.png", "--like", str(tmp_path / "plain.png")) == 5
    assert "does not say how it was made" in capsys.readouterr().err
    assert render(tmp_path, tmp_path / "out.png", "x") == 5
    assert "holds no model" in capsys.readouterr().err
    assert render(tiny_model, tmp_path / "no" / "out.png", "x", "--steps", "1", "--size", "64x64") == 5
    assert "cannot be written" in capsys.readouterr().err


def test_a_wrong_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FLEET_AGENT_THREADS", "many")
    assert main(["run"]) == 2
    assert capsys.readouterr().err == "FLEET_AGENT_THREADS must be a number from 0 to 1024, and 'many' was given.\n"
