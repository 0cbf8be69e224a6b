"""A model on torch that leaves the device and comes back is the same to the last bit. Here both are the machine's memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpu_inference.engine.errors import OutOfMemory
from gpu_inference.engine.loras import Applied, Lora, load_lora
from gpu_inference.engine.manifest import ModelFolder, load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request
from tests.support.safetensors_files import write_any
from tests.support.sdxl_numpy import import_tiny

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("libraries")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return load_model_folder(import_tiny(tmp_path_factory.mktemp("parking") / "model"))


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Lora:
    """It changes a layer that is stored transposed, one that is not, and a text encoder."""
    rng = np.random.default_rng(3)
    unet, text = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "text_model.encoder.layers.0.self_attn.q_proj"
    tensors = {
        f"unet.{unet}.lora_A.weight": rng.standard_normal((4, 128)),
        f"unet.{unet}.lora_B.weight": rng.standard_normal((128, 4)),
        "unet.conv_in.lora_A.weight": rng.standard_normal((2, 4, 3, 3)),
        "unet.conv_in.lora_B.weight": rng.standard_normal((64, 2, 1, 1)),
        f"text_encoder.{text}.lora_A.weight": rng.standard_normal((4, 64)),
        f"text_encoder.{text}.lora_B.weight": rng.standard_normal((64, 4)),
    }
    folder = tmp_path_factory.mktemp("lora")
    return load_lora(write_any(folder / "ink.safetensors", tensors, "F32", {"base_model": "tiny"}))


def picture(pipeline: Pipeline, loras: list[Applied]) -> bytes:
    request = parse_request({"prompt": "a red circle", "width": 128, "height": 128, "steps": 3, "seed": 7, "scheduler": "euler"})
    return pipeline.render(request, loras=loras).png


def tensors_of(pipeline: Pipeline) -> dict[str, Any]:
    backend: Any = pipeline.backend
    return {f"{network} {name}": tensor for network, ops in backend._ops.items() for name, tensor in ops.tensors.items()}


@pytest.fixture
def pipeline(model: ModelFolder) -> Pipeline:
    return Pipeline.load(model, 2, "torch")


def test_a_picture_is_the_same_afterwards(pipeline: Pipeline, lora: Lora) -> None:
    plain, wanted = picture(pipeline, []), [Applied(lora, 0.8)]
    before = {name: (each.clone(), each.stride()) for name, each in tensors_of(pipeline).items()}
    assert pipeline.backend.park()
    assert tensors_of(pipeline) == {}, "nothing of it is on the device"
    pipeline.backend.wake()
    after = tensors_of(pipeline)
    assert {name: each.stride() for name, each in after.items()} == {name: stride for name, (_, stride) in before.items()}
    assert any(not each.is_contiguous() for each in after.values()), "the transposed ones are so still"
    assert all(each.equal(before[name][0]) for name, each in after.items())
    assert picture(pipeline, []) == plain

    changed = picture(pipeline, wanted)
    assert changed != plain
    assert pipeline.backend.park()
    pipeline.backend.wake()
    assert picture(pipeline, wanted) == changed, "they are in the weights"
    assert pipeline.backend.park()
    pipeline.backend.wake()
    assert picture(pipeline, []) == plain, "and it is known that they are"


def test_what_is_kept_for_speed_goes(pipeline: Pipeline) -> None:
    backend: Any = pipeline.backend
    picture(pipeline, [])
    backend._recorded._graphs["recorded"] = None
    assert backend._static
    assert backend._kept
    assert backend.park()
    assert (backend._static, dict(backend._kept), backend._recorded._graphs) == ({}, {}, {})
    backend.wake()
    assert backend._parked == {}


def test_without_memory_for_all_nothing_changes(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu_inference.engine.backends import torch as torch_backend

    plain, made = picture(pipeline, []), list[Any]()

    class Second(torch_backend.Parked):
        def __init__(self, tensors: Any) -> None:
            if made:
                raise MemoryError
            made.append(self)
            super().__init__(tensors)

    monkeypatch.setattr(torch_backend, "Parked", Second)
    assert not pipeline.backend.park()
    assert made[0]._tensors == {}, "the one that there was is given back"
    assert picture(pipeline, []) == plain


def test_a_device_that_is_full_is_told_as_when_loading(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu_inference.engine.backends import torch as torch_backend

    def full(_self: Any, _device: str) -> Any:
        raise torch_backend._TORCH_OUT_OF_MEMORY("CUDA out of memory.")

    assert pipeline.backend.park()
    with monkeypatch.context() as patch:
        patch.setattr(torch_backend.Parked, "on", full)
        with pytest.raises(OutOfMemory):
            pipeline.backend.wake()
    backend: Any = pipeline.backend
    assert backend._parked
    pipeline.close()
    assert backend._parked == {}


def test_kernels_keep_their_channels_last(libraries: Any) -> None:
    from gpu_inference.engine.backends.torch_parked import Parked

    torch, _ = libraries
    kernel = torch.randn(8, 4, 3, 3, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    given = {
        "kernel": kernel,
        "pixel": torch.randn(8, 4, 1, 1).bfloat16(),
        "transposed": torch.randn(5, 7).bfloat16().t(),
        "bias": torch.ones(3).bfloat16(),
    }
    back = Parked(given).on("cpu")
    assert {name: (each.dtype, each.shape, each.stride()) for name, each in back.items()} == {
        name: (each.dtype, each.shape, each.stride()) for name, each in given.items()
    }
    assert all(back[name].equal(each) and back[name].data_ptr() != each.data_ptr() for name, each in given.items())


@pytest.mark.parametrize("code", [0, 2])
def test_memory_is_pinned_where_that_goes_and_given_back_once(libraries: Any, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    from gpu_inference.engine.backends import torch_parked

    torch, _ = libraries
    told: list[Any] = []
    cudart = SimpleNamespace(
        cudaHostRegister=lambda pointer, size, flags: told.append(("pin", size, flags)) or code,
        cudaHostUnregister=lambda pointer: told.append("unpin") or 0,
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    monkeypatch.setattr(torch_parked, "_forget_error", lambda: told.append("forget"))
    parked = torch_parked.Parked({"a": torch.ones(10), "b": torch.zeros(2, 3)})
    assert parked.on("cpu")["a"].equal(torch.ones(10))
    parked.close()
    parked.close()
    assert told == [("pin", 64, 0), *(["unpin"] if code == 0 else ["forget"])]
