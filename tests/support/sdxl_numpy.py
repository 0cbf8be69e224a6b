"""A tiny SDXL of random weights as a single-file checkpoint, made without torch: for tests that need an imported model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gpu_inference.importing.convert import Wishes, import_model
from gpu_inference.importing.tokenizer import BEGIN, END, WORD_END, byte_signs
from tests.support.safetensors_files import write_any

WORDS = ["red", "blue", "circle", "square", "night", "blurry"]
WIDTH_1, WIDTH_2, LENGTH = 64, 128, 77
WIDTHS, TRANSFORMERS, LAYERS = (64, 64, 128), (0, 1, 1), 1
VAE = (32, 32, 64, 64)
Tensors = dict[str, Any]


def vocabulary_folder(folder: Path) -> Path:
    """CLIP's own form of a vocabulary, of a few merges: ``vocab.json`` and ``merges.txt``."""
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + WORD_END]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    signs = byte_signs()
    words = [*signs, *(sign + WORD_END for sign in signs), *("".join(pair) for pair in merges), BEGIN, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    return folder


class _Maker:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.tensors: Tensors = {}

    def weight(self, name: str, *shape: int, bias: bool = True) -> None:
        scale = float(np.prod(shape[1:])) ** -0.5
        self.tensors[name + ".weight"] = (self._rng.standard_normal(shape) * scale).astype(np.float32)
        if bias:
            self.tensors[name + ".bias"] = (self._rng.standard_normal(shape[0]) * 0.05).astype(np.float32)

    def norm(self, name: str, width: int) -> None:
        self.tensors[name + ".weight"] = (1 + self._rng.standard_normal(width) * 0.05).astype(np.float32)
        self.tensors[name + ".bias"] = (self._rng.standard_normal(width) * 0.05).astype(np.float32)


def _clip(make: _Maker, vocabulary: int) -> None:
    root = "conditioner.embedders.0.transformer.text_model."
    make.weight(root + "embeddings.token_embedding", vocabulary, WIDTH_1, bias=False)
    make.weight(root + "embeddings.position_embedding", LENGTH, WIDTH_1, bias=False)
    for layer in range(2):
        name = f"{root}encoder.layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            make.weight(f"{name}self_attn.{part}", WIDTH_1, WIDTH_1)
        for part in ("layer_norm1", "layer_norm2"):
            make.norm(name + part, WIDTH_1)
        make.weight(name + "mlp.fc1", 4 * WIDTH_1, WIDTH_1)
        make.weight(name + "mlp.fc2", WIDTH_1, 4 * WIDTH_1)
    make.norm(root + "final_layer_norm", WIDTH_1)


def _open_clip(make: _Maker, vocabulary: int) -> None:
    root = "conditioner.embedders.1.model."
    make.weight(root + "token_embedding", vocabulary, WIDTH_2, bias=False)
    make.weight(root + "positional_embedding", LENGTH, WIDTH_2, bias=False)
    make.tensors[root + "positional_embedding"] = make.tensors.pop(root + "positional_embedding.weight")
    make.weight(root + "text_projection", WIDTH_2, WIDTH_2, bias=False)
    make.tensors[root + "text_projection"] = make.tensors.pop(root + "text_projection.weight")
    make.norm(root + "ln_final", WIDTH_2)
    for layer in range(2):
        name = f"{root}transformer.resblocks.{layer}."
        make.weight(name + "joined", 3 * WIDTH_2, WIDTH_2)
        for part in ("weight", "bias"):
            make.tensors[f"{name}attn.in_proj_{part}"] = make.tensors.pop(f"{name}joined.{part}")
        make.weight(name + "attn.out_proj", WIDTH_2, WIDTH_2)
        make.norm(name + "ln_1", WIDTH_2)
        make.norm(name + "ln_2", WIDTH_2)
        make.weight(name + "mlp.c_fc", 4 * WIDTH_2, WIDTH_2)
        make.weight(name + "mlp.c_proj", WIDTH_2, 4 * WIDTH_2)


def _resnet(make: _Maker, name: str, before: int, after: int, time: int) -> None:
    make.norm(name + "in_layers.0", before)
    make.weight(name + "in_layers.2", after, before, 3, 3)
    make.weight(name + "emb_layers.1", after, time)
    make.norm(name + "out_layers.0", after)
    make.weight(name + "out_layers.3", after, after, 3, 3)
    if before != after:
        make.weight(name + "skip_connection", after, before, 1, 1)


def _transformer(make: _Maker, name: str, width: int, layers: int) -> None:
    make.norm(name + "norm", width)
    make.weight(name + "proj_in", width, width)
    make.weight(name + "proj_out", width, width)
    for layer in range(layers):
        part = f"{name}transformer_blocks.{layer}."
        for attention, context in (("attn1", width), ("attn2", WIDTH_1 + WIDTH_2)):
            make.weight(f"{part}{attention}.to_q", width, width, bias=False)
            make.weight(f"{part}{attention}.to_k", width, context, bias=False)
            make.weight(f"{part}{attention}.to_v", width, context, bias=False)
            make.weight(f"{part}{attention}.to_out.0", width, width)
        for norm in ("norm1", "norm2", "norm3"):
            make.norm(part + norm, width)
        make.weight(part + "ff.net.0.proj", 8 * width, width)
        make.weight(part + "ff.net.2", width, 4 * width)


def _unet(make: _Maker) -> None:
    root, time = "model.diffusion_model.", 4 * WIDTHS[0]
    make.weight(root + "time_embed.0", time, WIDTHS[0])
    make.weight(root + "time_embed.2", time, time)
    make.weight(root + "label_emb.0.0", time, WIDTH_2 + 6 * 32)
    make.weight(root + "label_emb.0.2", time, time)
    make.weight(root + "input_blocks.0.0", WIDTHS[0], 4, 3, 3)
    index, width, kept = 1, WIDTHS[0], [WIDTHS[0]]
    for block, wide in enumerate(WIDTHS):
        for _ in range(LAYERS):
            _resnet(make, f"{root}input_blocks.{index}.0.", width, wide, time)
            width = wide
            if TRANSFORMERS[block]:
                _transformer(make, f"{root}input_blocks.{index}.1.", width, TRANSFORMERS[block])
            kept.append(width)
            index += 1
        if block < len(WIDTHS) - 1:
            make.weight(f"{root}input_blocks.{index}.0.op", width, width, 3, 3)
            kept.append(width)
            index += 1
    _resnet(make, root + "middle_block.0.", width, width, time)
    _transformer(make, root + "middle_block.1.", width, 1)
    _resnet(make, root + "middle_block.2.", width, width, time)
    index = 0
    for block in reversed(range(len(WIDTHS))):
        for layer in range(LAYERS + 1):
            _resnet(make, f"{root}output_blocks.{index}.0.", width + kept.pop(), WIDTHS[block], time)
            width = WIDTHS[block]
            if TRANSFORMERS[block]:
                _transformer(make, f"{root}output_blocks.{index}.1.", width, TRANSFORMERS[block])
            if layer == LAYERS and block:
                make.weight(f"{root}output_blocks.{index}.{2 if TRANSFORMERS[block] else 1}.conv", width, width, 3, 3)
            index += 1
    make.norm(root + "out.0", width)
    make.weight(root + "out.2", 4, width, 3, 3)


def _vae_resnet(make: _Maker, name: str, before: int, after: int) -> None:
    make.norm(name + "norm1", before)
    make.weight(name + "conv1", after, before, 3, 3)
    make.norm(name + "norm2", after)
    make.weight(name + "conv2", after, after, 3, 3)
    if before != after:
        make.weight(name + "nin_shortcut", after, before, 1, 1)


def _vae(make: _Maker) -> None:
    root, width = "first_stage_model.decoder.", VAE[-1]
    make.weight("first_stage_model.post_quant_conv", 4, 4, 1, 1)
    make.weight(root + "conv_in", width, 4, 3, 3)
    _vae_resnet(make, root + "mid.block_1.", width, width)
    make.norm(root + "mid.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        make.weight(root + "mid.attn_1." + part, width, width, 1, 1)
    _vae_resnet(make, root + "mid.block_2.", width, width)
    for level in reversed(range(len(VAE))):
        for layer in range(2):
            _vae_resnet(make, f"{root}up.{level}.block.{layer}.", width, VAE[level])
            width = VAE[level]
        if level:
            make.weight(f"{root}up.{level}.upsample.conv", width, width, 3, 3)
    make.norm(root + "norm_out", width)
    make.weight(root + "conv_out", 3, width, 3, 3)


def tiny_tensors(vocabulary: int, seed: int = 0) -> Tensors:
    """All tensors of the checkpoint, float32."""
    make = _Maker(seed)
    for part in (_clip, _open_clip):
        part(make, vocabulary)
    _unet(make)
    _vae(make)
    return make.tensors


def write_tiny(
    path: Path, changes: Tensors | None = None, seed: int = 0, dtype: str = "F16", metadata: dict[str, str] | None = None
) -> Path:
    """The checkpoint as a file; ``changes`` replace tensors, None takes one out. Its vocabulary lies beside it."""
    place = vocabulary_folder(path.parent / "vocabulary")
    size = len(json.loads((place / "vocab.json").read_text(encoding="utf-8")))
    tensors = {**tiny_tensors(size, seed), **(changes or {})}
    return write_any(path, {name: value for name, value in tensors.items() if value is not None}, dtype, metadata or {})


def import_tiny(target: Path, name: str = "tiny", seed: int = 0, **wishes: Any) -> Path:
    """The checkpoint imported to ``target``, for pictures of 128 pixels a side."""
    file = write_tiny(target.parent / f"{target.name}.safetensors", seed=seed)
    return import_model(file, name, target, Wishes(native_size=128, tokenizer=target.parent / "vocabulary", **wishes))


def use_tiny_vocabulary(folder: Path, monkeypatch: Any) -> None:
    """Has importers that are started from now on take the vocabulary that :func:`write_tiny` lays into ``folder`` for CLIP's."""
    place = folder / "path" / "sitecustomize.py"
    place.parent.mkdir()
    place.write_text(
        "import pathlib\n"
        "import gpu_inference.importing.tokenizer as tokenizer\n"
        f"tokenizer._packaged = lambda: pathlib.Path({str(folder / 'vocabulary')!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{place.parent}:{Path.cwd()}")
