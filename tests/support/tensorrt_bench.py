"""A machine with a stand-in of TensorRT, and a step of a model on a backend."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from gpu_inference.building.build import build_engines
from gpu_inference.building.plans import PlanStore
from gpu_inference.engine import noise
from gpu_inference.engine.backends import tensorrt_plan
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.tensorrt import TensorRTBackend
from gpu_inference.engine.conditioning import build as conditions
from gpu_inference.engine.loras import Lora, load_lora
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.sizes import plan_size
from gpu_inference.engine.tokenizer import Tokenizer
from tests.support.safetensors_files import write_any
from tests.support.tensorrt_fake import FakeCudaRuntime, fake_tensorrt


class Machine:
    """A machine with a GPU and a release of TensorRT."""

    def __init__(self, release: str, folder: Path, **device: Any) -> None:
        self.runtime = FakeCudaRuntime(**device)
        self.trt = fake_tensorrt(release, self.runtime)
        self.store = PlanStore(folder / "plans")
        self.told: list[str] = []

    def cuda(self) -> Cuda:
        return Cuda(self.runtime)

    def build(self, model: ModelFolder, **more: Any) -> int:
        return build_engines(model, self.store, self.cuda(), lambda _done, _all, what: self.told.append(what), **more)

    def backend(self, model: ModelFolder) -> TensorRTBackend:
        return TensorRTBackend(model, store=self.store, cuda=self.cuda())


def machine_of(release: str, folder: Path, monkeypatch: Any) -> Machine:
    """A machine whose release is what ``import tensorrt`` gives from now on."""
    found = Machine(release, folder)
    real = importlib.import_module
    monkeypatch.setattr(tensorrt_plan.importlib, "import_module", lambda name: found.trt if name in tensorrt_plan.MODULES else real(name))
    return found


def prediction(backend: Any, model: ModelFolder, pictures: int = 1, size: tuple[int, int] = (128, 128), guidance: float = 5.0) -> Any:
    manifest = model.manifest
    tokenizer = Tokenizer(model.file(manifest.tokenizer.file), manifest.tokenizer.max_length)
    inputs = conditions(manifest, tokenizer, "a red circle", "blurry", guidance, plan_size(*size, manifest.size_buckets))[0]
    backend.prepare([inputs] * pictures)
    return backend.denoise(noise.normal(1, 0, (pictures, 4, size[1] // 8, size[0] // 8)), 500.0)


def ink(folder: Path) -> Lora:
    """A LoRA of the tiny SDXL that changes its UNet and a text encoder."""
    rng = np.random.default_rng(3)
    unet, text = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "text_model.encoder.layers.0.self_attn.q_proj"
    tensors = {
        f"unet.{unet}.lora_A.weight": rng.standard_normal((4, 128)),
        f"unet.{unet}.lora_B.weight": rng.standard_normal((128, 4)),
        f"text_encoder.{text}.lora_A.weight": rng.standard_normal((4, 64)),
        f"text_encoder.{text}.lora_B.weight": rng.standard_normal((64, 4)),
    }
    return load_lora(write_any(folder / "ink.safetensors", tensors, "F32", {"base_model": "tiny"}))
