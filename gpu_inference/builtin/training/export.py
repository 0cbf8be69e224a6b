"""Writes the trained model as ONNX graphs with tokeniser and manifest: ``python -m gpu_inference.builtin.training.export``."""

import argparse
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import onnx
import torch
from diffusers import AutoencoderKL
from onnx import TensorProto, helper, numpy_helper

from gpu_inference.builtin.training.autoencoder import build_autoencoder
from gpu_inference.builtin.training.diffusion import BUCKETS, SQUARE
from gpu_inference.builtin.training.networks import BETA_END, BETA_START, TIMESTEPS, WIDTHS, TextToImage
from gpu_inference.builtin.training.tokenizer import END, MAX_LENGTH, build_tokenizer
from gpu_inference.builtin.training.vocabulary import words

LARGE = 64  # initializers with fewer numbers stay as they are
ENCODERS = ("text_encoder.onnx", "text_encoder_2.onnx")
WEIGHTS = "unet.weights.json"
LIMIT = 10_000_000
NAME = "fleet-shapes"


class _Encoder(torch.nn.Module):
    """A text encoder that returns its last but one layer and, where it has one, its pooled embedding."""

    def __init__(self, encoder: torch.nn.Module, pooled: bool) -> None:
        super().__init__()
        self.encoder, self.pooled = encoder, pooled

    def forward(self, input_ids: torch.Tensor) -> Any:
        found = self.encoder(input_ids, output_hidden_states=True)
        return (found.hidden_states[-2], found.text_embeds) if self.pooled else found.hidden_states[-2]


class _UNet(torch.nn.Module):
    """The UNet with its conditions as plain inputs."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, hidden: torch.Tensor, embeds: torch.Tensor, time_ids: torch.Tensor
    ) -> torch.Tensor:
        return self.unet(sample, timestep, hidden, added_cond_kwargs={"text_embeds": embeds, "time_ids": time_ids}).sample


class _Decoder(torch.nn.Module):
    """The VAE's way from latents to pixels."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latent_sample).sample


def _write(
    module: torch.nn.Module, inputs: Dict[str, torch.Tensor], outputs: List[str], axes: Dict[str, Dict[int, str]], path: Path
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    graph = onnx.load(str(path))
    shrink(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def shrink(model: onnx.ModelProto) -> None:
    """Store the weights as fp16 and cast them back at load, and drop what only a debugger would read."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < LARGE:
            continue
        name = tensor.name
        half = numpy_helper.from_array(values.astype(np.float16), name + "_h")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [name + "_h"], [name], to=TensorProto.FLOAT))
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    for number, node in enumerate(graph.node):
        node.ClearField("doc_string")
        node.name = str(number)  # without names ONNX Runtime 1.19 fuses nodes to ones of equal name, and refuses them
    del graph.value_info[:]


def _latent_axes(name: str) -> Dict[str, Dict[int, str]]:
    return {name: {0: "batch", 2: "height", 3: "width"}}


def export_networks(model: TextToImage, vae: AutoencoderKL, folder: Path) -> None:
    """Write the four graphs, and the map of the UNet's weights."""
    ids = torch.randint(0, 99, (2, MAX_LENGTH))
    text_axes = {"input_ids": {0: "batch"}, "hidden_states": {0: "batch"}}
    _write(_Encoder(model.text_encoder, False), {"input_ids": ids}, ["hidden_states"], text_axes, folder / ENCODERS[0])
    text_axes = dict(text_axes, text_embeds={0: "batch"})
    _write(_Encoder(model.text_encoder_2, True), {"input_ids": ids}, ["hidden_states", "text_embeds"], text_axes, folder / ENCODERS[1])
    inputs = {
        "sample": torch.randn(2, 4, 12, 16),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(2, MAX_LENGTH, sum(WIDTHS)),
        "text_embeds": torch.randn(2, WIDTHS[1]),
        "time_ids": torch.full((2, 6), 128.0),
    }
    axes = {"encoder_hidden_states": {0: "batch", 1: "length"}, "text_embeds": {0: "batch"}, "time_ids": {0: "batch"}}
    axes.update(_latent_axes("sample"), **_latent_axes("out_sample"))
    _write(_UNet(model.unet), inputs, ["out_sample"], axes, folder / "unet.onnx")
    (folder / WEIGHTS).write_text(json.dumps(weight_map(model.unet, folder / "unet.onnx")) + "\n", encoding="utf-8")
    axes = dict(_latent_axes("latent_sample"), **_latent_axes("sample"))
    _write(_Decoder(vae), {"latent_sample": torch.randn(2, 4, 12, 16)}, ["sample"], axes, folder / "vae_decoder.onnx")


def weight_map(unet: torch.nn.Module, path: Path) -> Dict[str, Any]:
    """Say where in the graph's file each linear or convolutional weight of the UNet lies, for whoever changes weights.

    Weights are found by their values, as the exporter names those of linear layers anew and stores them transposed.
    """
    data, found = path.read_bytes(), {}
    known = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            known[numpy_helper.to_array(tensor).tobytes()] = tensor
    for name, module in unet.named_modules():
        if not isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            continue
        value = module.weight.detach().numpy().astype(np.float16)
        straight, turned = value.tobytes(), np.ascontiguousarray(value.T).tobytes()
        tensor = known.get(straight) or known.get(turned)
        if tensor is None or data.count(tensor.raw_data) != 1:
            raise SystemExit(f"the weight of {name} is not once in {path}")
        found[name] = {
            "initializer": tensor.name,
            "offset": data.find(tensor.raw_data),
            "dtype": "float16",
            "shape": list(tensor.dims),
            "transposed": straight not in known,
        }
    return {"format": 1, "weights": found}


def manifest(folder: Path, scaling: float, end: int, name: str = NAME) -> Dict[str, Any]:
    """Describe the folder: what the graphs expect, and the checksum of every file."""
    files = sorted(path for path in folder.iterdir() if path.suffix == ".onnx" or path.name in ("tokenizer.json", WEIGHTS))
    encoders = [
        {"file": file, "pad_token_id": pad, "hidden_output": "hidden_states", "pooled_output": pooled}
        for file, pad, pooled in zip(ENCODERS, (end, 0), (None, "text_embeds"))
    ]
    return {
        "format": 1,
        "name": name,
        "version": "1",
        "type": "checkpoint",
        "architecture": "sdxl",
        "license": "Apache-2.0",
        "prediction_type": "v_prediction",
        "beta_schedule": "scaled_linear",
        "beta_start": BETA_START,
        "beta_end": BETA_END,
        "train_timesteps": TIMESTEPS,
        "zero_terminal_snr": True,
        "timestep_spacing": "trailing",
        "steps_offset": 0,
        "latent_channels": 4,
        "vae_scale_factor": 8,
        "vae_scaling_factor": scaling,
        "vae_shift": 0.0,
        "native_size": SQUARE[0],
        "size_buckets": [list(bucket) for bucket in BUCKETS],
        "default_guidance": 2.0,
        "guidance_limit": 2.0,
        "max_guidance_rescale": 0.7,
        "time_ids": ["original_height", "original_width", "crop_top", "crop_left", "target_height", "target_width"],
        "tokenizer": {"file": "tokenizer.json", "max_length": MAX_LENGTH, "unknown_words": "drop"},
        "text_encoders": encoders,
        "unet": {"file": "unet.onnx", "precision": "fp32", "weights": WEIGHTS},
        "vae_decoder": {"file": "vae_decoder.onnx", "precision": "fp32"},
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }


def load_checkpoints(folder: Path) -> Tuple[TextToImage, AutoencoderKL, float]:
    """Load the averaged weights, the VAE, and the factor its latents are scaled by."""
    vae = build_autoencoder()
    vae.load_state_dict(torch.load(folder / "vae.pt")["model"])
    state = torch.load(folder / "diffusion.pt")
    model = TextToImage(build_tokenizer(words()).get_vocab_size())
    model.load_state_dict(state["ema"])
    return model.eval(), vae.eval(), float(state["scaling"])


def export(checkpoints: Path, folder: Path, name: str = NAME) -> int:
    """Write the model folder and return its size in bytes; one that is too large is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    model, vae, scaling = load_checkpoints(checkpoints)
    tokenizer = build_tokenizer(words())
    export_networks(model, vae, folder)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    described = manifest(folder, scaling, tokenizer.token_to_id(END), name)
    (folder / "manifest.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > LIMIT:
        raise SystemExit(f"the model folder has {size} bytes, more than {LIMIT}")
    return size


def main() -> None:
    """Export checkpoints to a model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, required=True, help="the folder that training wrote to")
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--name", default=NAME, help=f"the model's name (default {NAME})")
    options = parser.parse_args()
    print(f"{export(options.checkpoints, options.out, options.name)} bytes")


if __name__ == "__main__":
    main()
