"""TensorRT's backend on a stand-in of three releases, which computes the same graphs by ONNX Runtime."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_inference.engine import noise
from gpu_inference.engine.backends import cudart, tensorrt_plan
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.onnx import OnnxBackend
from gpu_inference.engine.errors import BackendError, Cancelled, LoraError, NoRoom, OutOfMemory
from gpu_inference.engine.loras import Applied, load_lora
from gpu_inference.engine.manifest import ModelFolder, load_model_folder
from tests.support.safetensors_files import write_any
from tests.support.tensorrt_bench import Machine, prediction
from tests.support.tensorrt_fake import FakeCudaRuntime, fake_tensorrt

RELEASES = ("8.5.2", "10.16.1", "11.4.0")
SURFACE = json.loads((Path(__file__).parents[3] / "support" / "tensorrt_surface.json").read_text())


every_release = pytest.mark.parametrize("machine", RELEASES, indirect=True)


@every_release
def test_the_same_prediction_and_picture_as_onnx(machine: Machine, model: ModelFolder) -> None:
    assert machine.build(model) == 4
    assert machine.told == ["text_encoder", "text_encoder_2", "unet", "vae_decoder", "done"]
    backend, other = machine.backend(model), OnnxBackend(model, 1)
    for guidance in (5.0, 1.0, 5.0):
        mine, theirs = prediction(backend, model, guidance=guidance), prediction(other, model, guidance=guidance)
        assert np.abs(mine - theirs).max() < 0.02 * np.abs(theirs).max()  # half precision beside single
    latents = noise.normal(2, 0, (1, 4, 16, 16))
    np.testing.assert_allclose(backend.decode(latents), other.decode(latents), atol=1e-3)
    backend.close()
    assert not machine.runtime.blocks


@every_release
def test_a_second_run_of_a_size_replays_what_was_recorded(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    backend = machine.backend(model)
    first = prediction(backend, model)
    launched = machine.runtime.launched
    np.testing.assert_array_equal(prediction(backend, model), first)
    assert machine.runtime.launched == launched + 1  # the prompts are kept
    wide = max(model.manifest.size_buckets, key=lambda size: size[0] / size[1])
    assert prediction(backend, model, size=wide).shape == (1, 4, wide[1] // 8, wide[0] // 8)
    np.testing.assert_array_equal(prediction(backend, model), first)


def test_what_is_there_is_not_built_again(machine: Machine, model: ModelFolder, tmp_path: Path) -> None:
    assert (machine.build(model), machine.build(model)) == (4, 0)
    renamed = Path(shutil.copytree(str(model.path), str(tmp_path / "renamed")))
    said = json.loads((renamed / "manifest.json").read_text())
    (renamed / "manifest.json").write_text(json.dumps(dict(said, name="another")))
    assert machine.build(load_model_folder(renamed)) == 0  # the same weights and graphs
    machine.runtime.architecture = (9, 0)
    assert machine.build(model) == 4
    assert {said["architecture"] for said in machine.store.all()} == {"sm_87", "sm_90"}
    assert machine.store.remove(model.name) == 8
    assert not list(machine.store.folder.iterdir())


def test_a_full_store_forgets_what_was_used_least_recently(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    sizes = [path.stat().st_size for path in machine.store.folder.glob("*.plan")]
    machine.store.limit = sum(sizes) + 10
    machine.runtime.architecture = (9, 0)
    machine.build(model)
    assert sum(path.stat().st_size for path in machine.store.folder.glob("*.plan")) <= machine.store.limit
    assert machine.backend(model).name == "tensorrt"
    machine.runtime.architecture = (8, 7)
    with pytest.raises(BackendError, match=r"No engine of TensorRT 10.16.1 for sm_87 was built of the model 'tiny' yet; build it with"):
        machine.backend(model)


def test_an_engine_of_another_release_is_refused(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    path = next(machine.store.folder.glob("*.plan"))
    path.write_text(json.dumps(dict(json.loads(path.read_text()), release="8.6.1")))
    with pytest.raises(BackendError, match="refuses the engine"):
        machine.backend(model)
    assert not machine.runtime.blocks


@every_release
def test_loras_replace_weights_and_are_taken_back(machine: Machine, model: ModelFolder, tmp_path: Path) -> None:
    machine.build(model)
    backend, other = machine.backend(model), OnnxBackend(model, 1)
    plain = prediction(backend, model)
    rng = np.random.default_rng(3)
    module = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {
        f"unet.{module}.lora_A.weight": rng.standard_normal((4, 128)).astype(np.float32),
        f"unet.{module}.lora_B.weight": rng.standard_normal((128, 4)).astype(np.float32),
    }
    lora = load_lora(write_any(tmp_path / "l.safetensors", tensors, "F32", {"base_model": "tiny"}))
    for backend_of in (backend, other):
        backend_of.adapt([Applied(lora, 0.8)])
    mine, theirs = prediction(backend, model), prediction(other, model)
    assert np.abs(mine - plain).max() > 0.01
    assert np.abs(mine - theirs).max() < 0.02 * np.abs(theirs).max()
    backend.adapt([])
    np.testing.assert_array_equal(prediction(backend, model), plain)


def test_a_lora_that_fails_halfway_is_taken_out_again(
    machine: Machine, model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.build(model)
    backend = machine.backend(model)
    plain = prediction(backend, model)
    rng = np.random.default_rng(4)
    attention = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    tensors = {
        f"{attention}.lora_A.weight": rng.standard_normal((4, 64)),
        f"{attention}.lora_B.weight": rng.standard_normal((64, 4)),
        "unet.conv_in.lora_A.weight": np.ones((1, 4, 3, 3)),
        "unet.conv_in.lora_B.weight": np.ones((64, 1, 1, 1)),
    }
    lora = load_lora(write_any(tmp_path / "l.safetensors", tensors, "F32", {"base_model": "tiny"}))
    refit = backend._plans["unet"].refit

    def fails(_weights: Any) -> None:
        raise LoraError("The engine does not take the changed weights.")

    monkeypatch.setattr(backend._plans["unet"], "refit", fails)
    with pytest.raises(LoraError):
        backend.adapt([Applied(lora, 1.0)])
    with pytest.raises(BackendError, match="changing its weights failed"):
        prediction(backend, model)
    monkeypatch.setattr(backend._plans["unet"], "refit", refit)
    backend.adapt([])
    np.testing.assert_array_equal(prediction(backend, model), plain)


def test_building_can_be_cancelled_and_leaves_nothing(machine: Machine, model: ModelFolder) -> None:
    with pytest.raises(Cancelled):
        machine.build(model, cancelled=lambda: True)
    assert not machine.store.folder.exists() or not list(machine.store.folder.iterdir())


def test_memory_is_looked_at_before_a_load(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    machine.runtime.room = 64 * 2**20
    with pytest.raises(NoRoom, match=r"The model 'tiny' needs \d+ MiB of the device's memory, of which 64 MiB are free."):
        machine.backend(model)


@every_release
def test_an_engine_is_read_without_a_copy_of_its_file(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    machine.backend(model).close()
    assert machine.runtime.given == ["mmap"] * 4
    machine.runtime.bytes_alone = True
    machine.backend(model).close()
    assert machine.runtime.given[4:] == ["bytes"] * 4
    path = next(machine.store.folder.glob("*.plan"))
    path.write_bytes(b"")
    with pytest.raises(BackendError, match="refuses the engine"):
        machine.backend(model)


def test_an_engine_is_written_without_a_copy(machine: Machine, model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    real = machine.trt.Builder.build_serialized_network

    def build(builder: Any, *arguments: Any) -> Any:
        built.append(np.frombuffer(real(builder, *arguments), np.uint8))
        return built[-1]

    kept: list[Any] = []
    keep = machine.store.keep

    def keeping(path: Path, plan: Any, *more: Any) -> None:
        kept.append(plan)
        keep(path, plan, *more)

    monkeypatch.setattr(machine.trt.Builder, "build_serialized_network", build)
    monkeypatch.setattr(machine.store, "keep", keeping)
    machine.build(model)
    assert all(np.shares_memory(np.frombuffer(each, np.uint8), own) for each, own in zip(kept, built, strict=True))


def test_where_memory_is_shared_the_file_that_is_read_counts(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    sizes = [path.stat().st_size for path in machine.store.folder.glob("*.plan")]
    machine.runtime.room = 256 * 2**20 + sum(sizes) + max(sizes) - 1 + 4096
    machine.backend(model).close()
    machine.runtime.room -= 4096
    machine.runtime.shared = True
    with pytest.raises(NoRoom):
        machine.backend(model)
    machine.runtime.room += 4096
    machine.backend(model).close()


def test_memory_that_runs_out_in_the_middle_frees_what_was_taken(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    machine.runtime.room = 257 * 2**20
    backend = machine.backend(model)
    machine.runtime.room = machine.runtime.used + 100
    with pytest.raises(OutOfMemory, match="The device ran out of memory"):
        prediction(backend, model)
    backend.close()
    assert not machine.runtime.blocks


def test_no_device_is_found_before_a_runtime_is_made(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    machine.runtime.count = 0
    with pytest.raises(BackendError, match="There is no CUDA device"):
        machine.backend(model)


def test_no_libcudart_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> Any:
        raise OSError

    monkeypatch.setattr(cudart.ctypes, "CDLL", missing)
    with pytest.raises(BackendError, match="libcudart"):
        Cuda()


def test_a_release_before_8_5_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_tensorrt("7.1.3", FakeCudaRuntime())
    monkeypatch.setattr(tensorrt_plan.importlib, "import_module", lambda _name: old)
    with pytest.raises(BackendError, match=r"TensorRT 7.1.3 is too old: the worker needs 8.5"):
        tensorrt_plan.bindings()


def test_a_graph_that_is_damaged_is_one_sentence(machine: Machine, model: ModelFolder, tmp_path: Path) -> None:
    broken = load_model_folder(Path(shutil.copytree(str(model.path), str(tmp_path / "broken"))))
    file = broken.file(broken.manifest.unet.tensorrt or "")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(Exception, match=r"unet.tensorrt.onnx") as caught:
        machine.build(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("release", ["10.16.1", "11.4.0"])
def test_the_stand_in_offers_nothing_that_the_real_bindings_lack(release: str) -> None:
    """The surfaces are those of the real bindings, read from their wheels (``tests/support/tensorrt_surface.py``)."""
    real = next(said for version, said in SURFACE.items() if version.startswith(release.rsplit(".", 1)[0]))
    trt = fake_tensorrt(release, FakeCudaRuntime())
    own = {"said", "path", "weights"}
    for name in ("Runtime", "ICudaEngine", "IExecutionContext", "Refitter", "IOptimizationProfile", "Logger"):
        kind = getattr(trt, name)
        offered = {each for each in dir(kind) if not each.startswith("_")} | _attributes(kind)
        assert offered - own - {"shapes"} <= set(real["classes"][name]), name
    for name in ("TensorIOMode", "BuilderFlag", "MemoryPoolType"):
        assert set(vars(getattr(trt, name))) <= set(real["classes"][name]), name
    assert set(vars(trt.ExecutionContextAllocationStrategy)) <= set(real["classes"]["ExecutionContextAllocationStrategy"])
    assert {"Builder", "OnnxParser", *vars(trt.NetworkDefinitionCreationFlag)} <= set(real["builder"])
    calibrators = {"IInt8EntropyCalibrator2", "int8_calibrator", "set_calibration_profile", "get_batch", "read_calibration_cache"}
    assert calibrators & set(real["builder"]) == (calibrators if hasattr(trt, "IInt8EntropyCalibrator2") else set())
    for kind in (trt.Builder, trt.OnnxParser):
        assert {each for each in dir(kind) if not each.startswith("_")} <= set(real["builder"])


def _attributes(kind: type) -> set[str]:
    """Attributes that the stand-in's ``__init__`` sets and that do not begin with an underscore."""
    if "__init__" not in vars(kind) or "<lambda>" in kind.__init__.__qualname__:
        return set()
    return set(re.findall(r"self\.([a-z]\w*)(?:, self\.\w+)* *[:=]", inspect.getsource(kind.__init__)))
