"""The names of a UNet's modules in other files: diffusers' are ours, the original code's are those of single-file checkpoints."""

from __future__ import annotations

import re
from typing import Iterable

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_FIXED = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


class OriginalNames:
    """Translates modules of a UNet with ``layers`` residual blocks a block, of which ``attended`` are the up blocks with attention."""

    def __init__(self, layers: int, attended: Iterable[int]) -> None:
        self._layers = layers
        self._attended = frozenset(attended)

    def __call__(self, module: str) -> str:
        """The original name of a module. Raises KeyError for one that no UNet of SDXL has."""
        if module in _FIXED:
            return _FIXED[module]
        found = _MIDDLE.fullmatch(module)
        if found is not None:
            kind, number, rest = found.groups()
            place = 1 if kind == "attentions" else 2 * int(number)
            return f"middle_block.{place}.{_RESNET[rest] if kind == 'resnets' else rest}"
        found = _BLOCK.fullmatch(module)
        if found is None:
            raise KeyError(module)
        way, block, kind, layer, rest = found.groups()
        if kind == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * (self._layers + 1)}.0.op"
        if kind == "upsamplers":
            last = int(block) * (self._layers + 1) + self._layers
            return f"output_blocks.{last}.{2 if int(block) in self._attended else 1}.conv"
        index = int(block) * (self._layers + 1) + int(layer) + (1 if way == "down" else 0)
        stem = f"{'input' if way == 'down' else 'output'}_blocks.{index}"
        return f"{stem}.0.{_RESNET[rest]}" if kind == "resnets" else f"{stem}.1.{rest}"


def original_names(modules: Iterable[str]) -> OriginalNames:
    """The translation for a UNet that has ``modules``."""
    layers, attended = 0, set()
    for module in modules:
        found = _BLOCK.fullmatch(module)
        if found is None:
            continue
        way, block, kind, layer, _ = found.groups()
        if way == "down" and kind == "resnets":
            layers = max(layers, int(layer) + 1)
        if way == "up" and kind == "attentions":
            attended.add(int(block))
    return OriginalNames(layers, attended)
