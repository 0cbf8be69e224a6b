"""A model folder of random weights, small enough to be made in a test, with the graph I/O of a real one."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from gpu_inference.builtin.training.safetensors import write_safetensors

LENGTH, WIDTH_1, WIDTH_2, POOLED, CHANNELS, FACTOR = 16, 8, 12, 10, 4, 8
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
PRODUCT_SIDE = 512


def _weight(name: str, shape: Sequence[int], rng: np.random.Generator, scale: float = 0.3) -> onnx.TensorProto:
    return numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name)


def _constant(name: str, values: Sequence[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> None:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _text_encoder(path: Path, vocabulary: int, width: int, pooled: bool, rng: np.random.Generator) -> None:
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["hidden_states"])]
    outputs = [helper.make_tensor_value_info("hidden_states", FLOAT, ["B", "L", width])]
    weights = [_weight("table", (vocabulary, width), rng)]
    if pooled:
        nodes += [
            helper.make_node("ReduceMean", ["hidden_states"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["mean", "project"], ["text_embeds"]),
        ]
        outputs.append(helper.make_tensor_value_info("text_embeds", FLOAT, ["B", POOLED]))
        weights.append(_weight("project", (width, POOLED), rng))
    _save(path, nodes, [helper.make_tensor_value_info("input_ids", INT64, ["B", "L"])], outputs, weights)


@functools.cache
def _seconds_a_product() -> float:
    """How long this machine takes for one product of two square matrices, at its quickest."""
    shape = [PRODUCT_SIDE, PRODUCT_SIDE]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "a"], ["b"])],
        "product",
        [helper.make_tensor_value_info("a", FLOAT, shape)],
        [helper.make_tensor_value_info("b", FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"a": np.full(shape, 1e-3, dtype=np.float32)}
    taken = []
    for _ in range(20):
        begun = time.perf_counter()
        session.run(None, feed)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _unet(path: Path, rng: np.random.Generator, step_seconds: float) -> None:
    """A convolution plus a bias per channel from text, time ids and timestep; ``step_seconds`` adds products to take time."""
    nodes = [
        helper.make_node("Conv", ["sample", "kernel"], ["felt"], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["encoder_hidden_states"], ["text"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["text", "w_text"], ["b_text"]),
        helper.make_node("MatMul", ["text_embeds", "w_pool"], ["b_pool"]),
        helper.make_node("Mul", ["time_ids", "scale_ids"], ["small_ids"]),
        helper.make_node("MatMul", ["small_ids", "w_ids"], ["b_ids"]),
        helper.make_node("Mul", ["timestep", "w_time"], ["b_time"]),
        helper.make_node("Sum", ["b_text", "b_pool", "b_ids", "b_time"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "axes"], ["bias"]),
        helper.make_node("Add", ["felt", "bias"], ["sum"]),
    ]
    weights = [
        _weight("kernel", (CHANNELS, CHANNELS, 3, 3), rng, 0.15),
        _weight("w_text", (WIDTH_1 + WIDTH_2, CHANNELS), rng),
        _weight("w_pool", (POOLED, CHANNELS), rng),
        _weight("w_ids", (6, CHANNELS), rng),
        numpy_helper.from_array(np.array([1 / 1024], dtype=np.float32), "scale_ids"),
        _weight("w_time", (CHANNELS,), rng, 0.001),
        _constant("axes", [2, 3]),
    ]
    last = "sum"
    if step_seconds:
        weights += [
            numpy_helper.from_array(np.full((PRODUCT_SIDE, PRODUCT_SIDE), 1 / PRODUCT_SIDE, dtype=np.float32), "average"),
            numpy_helper.from_array(np.zeros((1,), dtype=np.float32), "nought"),
        ]
        nodes.append(helper.make_node("Add", ["average", "timestep"], ["product_0"]))
        products = max(1, round(step_seconds / _seconds_a_product()))
        nodes += [helper.make_node("MatMul", [f"product_{n}", "average"], [f"product_{n + 1}"]) for n in range(products)]
        nodes += [
            helper.make_node("ReduceMean", [f"product_{products}"], ["mean_product"], keepdims=0),
            helper.make_node("Mul", ["mean_product", "nought"], ["nothing"]),
            helper.make_node("Add", ["sum", "nothing"], ["late"]),
        ]
        last = "late"
    nodes.append(helper.make_node("Tanh", [last], ["out_sample"]))
    inputs = [
        helper.make_tensor_value_info("sample", FLOAT, ["B", CHANNELS, "h", "w"]),
        helper.make_tensor_value_info("timestep", FLOAT, [1]),
        helper.make_tensor_value_info("encoder_hidden_states", FLOAT, ["B", "L", WIDTH_1 + WIDTH_2]),
        helper.make_tensor_value_info("text_embeds", FLOAT, ["B", POOLED]),
        helper.make_tensor_value_info("time_ids", FLOAT, ["B", 6]),
    ]
    _save(path, nodes, inputs, [helper.make_tensor_value_info("out_sample", FLOAT, ["B", CHANNELS, "h", "w"])], weights)


def _decoder(path: Path, rng: np.random.Generator) -> None:
    nodes = [
        helper.make_node("Resize", ["latent_sample", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Conv", ["large", "kernel"], ["felt"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["felt"], ["sample"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([1, 1, FACTOR, FACTOR], dtype=np.float32), "scales"),
        _weight("kernel", (3, CHANNELS, 3, 3), rng),
    ]
    inputs = [helper.make_tensor_value_info("latent_sample", FLOAT, ["B", CHANNELS, "h", "w"])]
    _save(path, nodes, inputs, [helper.make_tensor_value_info("sample", FLOAT, ["B", 3, "H", "W"])], weights)


def _tokenizer(path: Path) -> int:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<end>", "<start>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", vocabulary["<start>"]), ("<end>", vocabulary["<end>"])]
    )
    tokenizer.save(str(path))
    return len(vocabulary)


def _weight_map(path: Path) -> dict[str, Any]:
    """Where the convolution and one linear layer lie, the latter transposed, as exporters store it."""
    data, weights = path.read_bytes(), {}
    for tensor in onnx.load(str(path)).graph.initializer:
        module = {"kernel": "conv", "w_text": "attention.to_k"}.get(tensor.name)
        if module is not None:
            place = {"initializer": tensor.name, "offset": data.index(tensor.raw_data), "dtype": "float32"}
            weights[module] = {**place, "shape": list(tensor.dims), "transposed": module != "conv"}
    return {"format": 1, "weights": weights}


def manifest_for(folder: Path, **changes: Any) -> dict[str, Any]:
    """The manifest of the files in ``folder``, with ``changes`` on top."""
    files = ["tokenizer.json", "text_encoder.onnx", "text_encoder_2.onnx", "unet.onnx", "unet.weights.json", "vae_decoder.onnx"]
    manifest: dict[str, Any] = {
        "format": 1,
        "name": "tiny",
        "version": "1",
        "type": "checkpoint",
        "architecture": "sdxl",
        "license": "Apache-2.0",
        "prediction_type": "v_prediction",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "train_timesteps": 1000,
        "zero_terminal_snr": True,
        "timestep_spacing": "trailing",
        "steps_offset": 0,
        "latent_channels": CHANNELS,
        "vae_scale_factor": FACTOR,
        "vae_scaling_factor": 0.9,
        "vae_shift": 0.0,
        "native_size": 64,
        "size_buckets": [[64, 64], [96, 48], [48, 96]],
        "default_guidance": 4.0,
        "max_guidance_rescale": 0.7,
        "time_ids": ["original_height", "original_width", "crop_top", "crop_left", "target_height", "target_width"],
        "tokenizer": {"file": "tokenizer.json", "max_length": LENGTH},
        "text_encoders": [
            {"file": "text_encoder.onnx", "pad_token_id": 1, "hidden_output": "hidden_states", "pooled_output": None},
            {"file": "text_encoder_2.onnx", "pad_token_id": 0, "hidden_output": "hidden_states", "pooled_output": "text_embeds"},
        ],
        "unet": {"file": "unet.onnx", "precision": "fp32", "weights": "unet.weights.json"},
        "vae_decoder": {"file": "vae_decoder.onnx", "precision": "fp32"},
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
    }
    manifest.update(changes)
    return manifest


def lora_tensors(seed: int = 0, rank: int = 2) -> dict[str, Any]:
    """Changes of the tiny model's convolution and linear layer."""
    rng = np.random.default_rng(seed)
    shapes = {
        "unet.conv.lora_A.weight": (rank, CHANNELS, 3, 3),
        "unet.conv.lora_B.weight": (CHANNELS, rank, 1, 1),
        "unet.attention.to_k.lora_A.weight": (rank, WIDTH_1 + WIDTH_2),
        "unet.attention.to_k.lora_B.weight": (CHANNELS, rank),
    }
    return {name: (rng.standard_normal(shape) * 0.5).astype(np.float16) for name, shape in shapes.items()}


def make_tiny_lora(path: Path, tensors: dict[str, Any] | None = None, **metadata: str) -> Path:
    """Writes a LoRA for the tiny model; ``metadata`` goes on top of what it says of itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = lora_tensors() if tensors is None else tensors
    write_safetensors(path, chosen, {"base_model": "tiny", "rank": "2", "alpha": "4", **metadata})
    return path


def make_tiny_model(folder: Path, seed: int = 0, step_seconds: float = 0.0, **changes: Any) -> Path:
    """Writes a model of random weights into ``folder``; ``changes`` go into its manifest.

    ``step_seconds`` makes every step multiply matrices for about that long on this machine, for tests that need a step to last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    vocabulary = _tokenizer(folder / "tokenizer.json")
    encoders: list[tuple[str, int, bool]] = [("text_encoder.onnx", WIDTH_1, False), ("text_encoder_2.onnx", WIDTH_2, True)]
    for name, width, pooled in encoders:
        _text_encoder(folder / name, vocabulary, width, pooled, rng)
    _unet(folder / "unet.onnx", rng, step_seconds)
    (folder / "unet.weights.json").write_text(json.dumps(_weight_map(folder / "unet.onnx")), encoding="utf-8")
    _decoder(folder / "vae_decoder.onnx", rng)
    (folder / "manifest.json").write_text(json.dumps(manifest_for(folder, **changes)), encoding="utf-8")
    return folder
