from __future__ import annotations

import importlib
import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpu_inference.engine import backends, conditioning, noise
from gpu_inference.engine.backends import BACKENDS, base, cudart, open_backend, resolve
from gpu_inference.engine.backends.networks import KEPT_PROMPTS
from gpu_inference.engine.backends.onnx import OnnxBackend
from gpu_inference.engine.backends.onnx_sessions import classify
from gpu_inference.engine.errors import BackendError, NotBuilt, OutOfMemory
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.sizes import plan_size
from gpu_inference.engine.tokenizer import Tokenizer
from tests.support.sdxl_numpy import import_tiny
from tests.support.tensorrt_bench import machine_of
from tests.support.tiny_model import manifest_for

SHAPE = (1, 4, 8, 8)


class Setup:
    def __init__(self, path: Path) -> None:
        self.folder = load_model_folder(path)
        self.backend = OnnxBackend(self.folder, 1)
        self.tokenizer = Tokenizer(path / "tokenizer.json", 16)

    def inputs(self, prompt: str, negative: str = "", guidance: float = 4.0) -> conditioning.Conditioning:
        plan = plan_size(64, 64, self.folder.manifest.size_buckets)
        return conditioning.build(self.folder.manifest, self.tokenizer, prompt, negative, guidance, plan)[0]

    def predict(self, prompt: str, negative: str = "", guidance: float = 4.0) -> Any:
        self.backend.prepare([self.inputs(prompt, negative, guidance)])
        return self.backend.denoise(noise.normal(1, 0, SHAPE), 500.0)


@pytest.fixture
def setup(tiny_model: Path) -> Setup:
    return Setup(tiny_model)


def test_guidance_in_one_batch_equals_two_calls(setup: Setup) -> None:
    positive, negative = setup.predict("a", guidance=1.0), setup.predict("b", guidance=1.0)
    np.testing.assert_allclose(setup.predict("a", "b", 3.0), negative + 3.0 * (positive - negative), atol=1e-6)


def test_prompt_timestep_and_size_matter(setup: Setup) -> None:
    first = setup.predict("a")
    assert np.abs(first - setup.predict("b")).max() > 1e-3
    setup.backend.prepare([setup.inputs("a")])
    assert np.abs(first - setup.backend.denoise(noise.normal(1, 0, SHAPE), 10.0)).max() > 1e-3
    assert setup.backend.denoise(noise.normal(1, 0, (1, 4, 6, 12)), 500.0).shape == (1, 4, 6, 12)


def test_decoding_divides_by_the_scaling_factor(setup: Setup) -> None:
    latents = noise.normal(2, 0, SHAPE)
    expected = setup.backend._sessions["vae_decoder"].run(None, {"latent_sample": latents / np.float32(0.9)})[0]
    decoded = setup.backend.decode(latents)
    assert decoded.shape == (1, 3, 64, 64)
    np.testing.assert_allclose(decoded, expected, atol=1e-6)


def test_an_unchanged_prompt_is_not_encoded_again(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    session = setup.backend._sessions["text_encoder"]

    class Counting:
        def run(self, *arguments: Any) -> Any:
            encoded.append(1)
            return session.run(*arguments)

    setup.backend._sessions["text_encoder"] = Counting()
    first = setup.predict("a", "b")
    assert len(encoded) == 2
    np.testing.assert_array_equal(setup.predict("a", "b"), first)
    assert len(encoded) == 2
    for index in range(KEPT_PROMPTS + 5):
        setup.predict(f"prompt {index}", "b")
    assert len(setup.backend._kept) == KEPT_PROMPTS
    np.testing.assert_array_equal(setup.predict("a", "b"), first)


def guided(negative: Any, positive: Any, scale: float, rescale: float) -> Any:
    return base.guide(negative, positive, np.array([scale], dtype=np.float32), np.array([rescale], dtype=np.float32))


def test_rescaling_restores_the_deviation() -> None:
    negative, positive = noise.normal(1, 0, SHAPE), noise.normal(1, 1, SHAPE)
    strong = guided(negative, positive, 7.5, 0.0)
    assert strong.std() > 2 * positive.std()
    assert guided(negative, positive, 7.5, 1.0).std() == pytest.approx(positive.std(), rel=1e-4)
    halfway = guided(negative, positive, 7.5, 0.5).std()
    assert positive.std() < halfway < strong.std()
    assert guided(negative * 0, negative * 0, 7.5, 0.7).max() == 0


def test_each_picture_of_a_batch_is_guided_by_its_own(setup: Setup) -> None:
    prompts = [("a", "b", 3.0), ("c d", "", 6.0), ("b", "a", 4.0)]
    alone = [setup.predict(*each) for each in prompts]
    setup.backend.prepare([setup.inputs(*each) for each in prompts])
    together = setup.backend.denoise(np.concatenate([noise.normal(1, 0, SHAPE)] * 3), 500.0)
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    assert setup.backend.decode(together).shape == (3, 3, 64, 64)


def test_a_step_before_prepare_is_refused(tiny_model: Path) -> None:
    with pytest.raises(BackendError, match="before anything was prepared"):
        OnnxBackend(load_model_folder(tiny_model), 1).denoise(noise.normal(1, 0, SHAPE), 1.0)


def test_a_graph_that_does_not_load_is_one_sentence(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(str(tiny_model), str(tmp_path / "broken")))
    (folder / "unet.onnx").write_bytes(b"not a graph")
    with pytest.raises(BackendError, match="ONNX Runtime failed") as caught:
        open_backend("onnx", load_model_folder(folder), 1)
    assert "\n" not in str(caught.value)
    assert manifest_for(folder)


def test_an_unknown_backend_says_what_there_is(tiny_model: Path) -> None:
    with pytest.raises(BackendError, match="'coreml' is not known; there are: auto, onnx, torch, tensorrt"):
        open_backend("coreml", load_model_folder(tiny_model), 1)


@pytest.mark.parametrize(
    ("there", "wanted", "expected"),
    [
        (["onnx", "tensorrt"], "auto", None),
        (["onnx", "tensorrt"], "onnx", "onnx"),
        (["onnx", "torch", "tensorrt"], "auto", "torch"),
        (["onnx"], "auto", "onnx"),
    ],
)
def test_beside_a_gpu_an_imported_model_without_engines_does_not_go_to_the_cpu_unasked(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], wanted: str, expected: str | None
) -> None:
    machine = machine_of("10.16.1", tmp_path, monkeypatch)
    monkeypatch.setenv("FLEET_ENGINE_PLANS", str(tmp_path / "plans"))
    monkeypatch.setattr(cudart, "load_library", lambda: machine.runtime)
    monkeypatch.setattr(backends, "gpu_present", lambda: True)
    monkeypatch.setattr(backends, "installed", lambda: there)
    monkeypatch.setattr(backends, "on_gpu", lambda name: name == "torch")
    model = load_model_folder(import_tiny(tmp_path / "model"))
    assert resolve(wanted, load_model_folder(tiny_model)) == "onnx", "one that was not imported is for the CPU"
    if expected is not None:
        assert resolve(wanted, model) == expected
        return
    with pytest.raises(NotBuilt, match="was built of the model 'tiny' yet; build it with 'fleet engines build NODE_ID tiny'") as caught:
        resolve(wanted, model)
    assert (caught.value.kind, caught.value.retry) == ("not_built", True)
    machine.build(model)
    assert resolve(wanted, model) == "tensorrt"


@pytest.mark.parametrize(
    ("for_cuda", "gpus", "expected"),
    [
        (True, ["torch"], ["cuda", "cpu"]),
        (True, ["tensorrt"], ["cpu"]),  # its package alone tells nothing
        (False, ["tensorrt"], ["cuda", "cpu"]),
        (False, [], ["cpu"]),
    ],
)
def test_an_engine_says_on_what_it_can_compute(
    monkeypatch: pytest.MonkeyPatch, for_cuda: bool, gpus: list[str], expected: list[str]
) -> None:
    monkeypatch.setattr(backends, "installed", lambda: ["onnx", "torch", "tensorrt"])
    monkeypatch.setattr(backends, "torch_for_cuda", lambda: for_cuda)
    monkeypatch.setattr(backends, "on_gpu", lambda name: name in gpus)
    assert backends.devices() == expected


@pytest.mark.parametrize("library", [True, False])
def test_a_build_of_torch_for_cuda_is_told_by_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: bool) -> None:
    (tmp_path / "lib").mkdir()
    if library:
        (tmp_path / "lib" / "libtorch_cuda.so").touch()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: found)
    assert backends.torch_for_cuda() is library
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert backends.torch_for_cuda() is False


@pytest.mark.parametrize(("cards", "for_cuda", "refused"), [(1, True, True), (0, True, False), (1, False, False)])
def test_a_gpu_without_its_driver_is_no_case_for_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cards: int, for_cuda: bool, refused: bool
) -> None:
    monkeypatch.setattr(backends, "gpu_present", lambda: False)
    monkeypatch.setattr(backends, "torch_for_cuda", lambda: for_cuda)
    monkeypatch.setattr(backends, "cards", lambda: cards)
    model = load_model_folder(import_tiny(tmp_path / "model"))
    if refused:
        with pytest.raises(BackendError, match="PyTorch does not find it"):
            resolve("auto", model)
    else:
        assert resolve("auto", model) == "onnx"


def test_a_gpu_that_torch_does_not_find_is_no_case_for_the_cpu(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "gpu_present", lambda: True)
    monkeypatch.setattr(backends, "installed", lambda: ["onnx", "torch"])
    monkeypatch.setattr(backends, "on_gpu", lambda _name: False)
    model = load_model_folder(import_tiny(tmp_path / "model"))
    with pytest.raises(BackendError, match="PyTorch does not find it; see whether 'nvidia-smi' works there"):
        resolve("auto", model)
    assert [resolve("auto", load_model_folder(tiny_model)), resolve("onnx", model)] == ["onnx", "onnx"]


def test_a_runtime_that_is_broken_computes_on_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(backends, "gpu_present", lambda: True)
    monkeypatch.setattr(importlib, "import_module", broken)
    assert not backends.on_gpu("torch")
    assert not backends.on_gpu("onnx")


def test_a_runtime_that_is_missing_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise ImportError("No module named 'onnxruntime'", name="onnxruntime")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BackendError, match="needs the package onnxruntime"):
        open_backend("onnx", load_model_folder(tiny_model), 1)
    assert list(BACKENDS) == ["onnx", "torch", "tensorrt"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("Failed to allocate memory for requested buffer")]
)
def test_memory_is_told_from_other_failures(error: Exception) -> None:
    assert isinstance(classify(error), OutOfMemory)
    assert not isinstance(classify(RuntimeError("shape mismatch")), OutOfMemory)
