"""The graphs of each network: their inputs and outputs, which the engine's backends name, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence

import onnx

from gpu_inference.engine.network.clip import text_encoder, unread_modules
from gpu_inference.engine.network.config import DecoderConfig, TextEncoderConfig, UNetConfig
from gpu_inference.engine.network.unet import unet
from gpu_inference.engine.network.vae import decoder
from gpu_inference.importing.graph import PLAIN, RUNTIME, GraphOps
from gpu_inference.importing.source import Source
from gpu_inference.importing.weights_file import WeightsFile



class Draw(NamedTuple):
    """How a network's graphs are drawn, and which modules of the checkpoint they leave out."""

    onto: Callable[[GraphOps], None]
    unread: Sequence[str] = ()


class Variant(NamedTuple):
    """One graph of a network; ``key`` is its place in the manifest, ``ending`` that of its file's name."""

    key: str
    ending: str
    dialect: str
    precision: str


RUNTIME_FP32 = Variant("file", ".onnx", RUNTIME, "float32")
RUNTIME_FP16 = Variant("half", ".half.onnx", RUNTIME, "float16")
PLAIN_FP16 = Variant("tensorrt", ".tensorrt.onnx", PLAIN, "float16")
PLAIN_FP32 = Variant("tensorrt", ".tensorrt.onnx", PLAIN, "float32")
HALVES = (RUNTIME_FP32, RUNTIME_FP16, PLAIN_FP16)
EXACT = (RUNTIME_FP32, PLAIN_FP32)
"""For a decoder whose values do not fit into half precision, as SDXL's first one's do not."""


def draw_unet(config: UNetConfig) -> Draw:
    """The UNet's graph."""

    def draw(ops: GraphOps) -> None:
        sample = ops.take("sample", ["n", config.in_channels, "h", "w"])
        timestep = ops.take("timestep", [1], exact=True)
        hidden = ops.take("encoder_hidden_states", ["n", "length", config.context_width])
        pooled = ops.take("text_embeds", ["n", config.pooled_width])
        time_ids = ops.take("time_ids", ["n", config.time_ids], exact=True)
        ops.give("out_sample", ["n", config.out_channels, "h", "w"])
        unet(ops, config, sample, timestep, hidden, pooled, time_ids)

    return Draw(draw)


def draw_text_encoder(config: TextEncoderConfig) -> Draw:
    """A text encoder's graph."""

    def draw(ops: GraphOps) -> None:
        ids = ops.take("input_ids", ["n", config.length], whole=True)
        ops.give("hidden_states", ["n", config.length, config.width])
        ops.give("text_embeds", ["n", "pooled"])
        text_encoder(ops, config, ids)

    return Draw(draw, unread_modules(config))


def draw_decoder(config: DecoderConfig) -> Draw:
    """The decoder's graph."""

    def draw(ops: GraphOps) -> None:
        latents = ops.take("latent_sample", ["n", config.latent_channels, "h", "w"])
        ops.give("sample", ["n", 3, "height", "width"])
        decoder(ops, config, latents)

    return Draw(draw)


def write_network(source: Source, network: str, draw: Draw, variants: List[Variant], storage: str, folder: Path) -> Dict[str, str]:
    """Writes a network's weights, their map and its graphs; returns the SHA-256 of the weights by their file.

    Raises :class:`gpu_inference.importing.source.CannotImport`.
    """
    with WeightsFile(source, network, folder / f"{network}.weights", storage) as weights:
        for variant in variants:
            ops = GraphOps(weights, variant.precision, variant.dialect)
            draw.onto(ops)
            onnx.save(ops.build(), str(folder / (network + variant.ending)))
    (folder / f"{network}.weights.json").write_text(weights.map(draw.unread), encoding="utf-8")
    return {weights.path.name: weights.sha256}
