"""Single-file checkpoints, in the names of the original code: ``model.diffusion_model``, ``conditioner``, ``first_stage_model``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.network.config import DecoderConfig, NetworkConfigs, TextEncoderConfig, UNetConfig
from gpu_inference.engine.network.names import OriginalNames
from gpu_inference.engine.safetensors import ALL, Safetensors, SafetensorsError, open_safetensors
from gpu_inference.importing.source import DECODER, ENCODERS, UNET, CannotImport, Facts, counted

Array = npt.NDArray[Any]
_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_HEAD = 64
"""Channels of an attention head of SDXL; CLIP's too."""

_CLIP = "transformer.text_model."
_OPEN_CLIP = "model."
_OPEN = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_LAYER = re.compile(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_STRANGERS = (
    ("model.diffusion_model.double_blocks", "a Flux checkpoint"),
    ("double_blocks.", "a Flux checkpoint"),
    ("model.diffusion_model.joint_blocks", "a checkpoint of Stable Diffusion 3"),
    ("cond_stage_model.transformer.", "a checkpoint of Stable Diffusion 1"),
    ("cond_stage_model.model.", "a checkpoint of Stable Diffusion 2"),
    ("lora_", "a LoRA; upload it with --lora"),
    ("control_model.", "a ControlNet"),
    ("edm_", "a checkpoint trained in the way of EDM"),
)


_SCALES = ("scale_weight", "weight_scale")
"""What the number is called, beside a weight in fp8, by which it is to be multiplied; programs differ."""

_QUANTIZED = ".comfy_quant"
"""Of a tensor that says how the weight beside it is packed, in ways of ComfyUI's own."""


def _open(path: Path) -> Safetensors:
    try:
        file = open_safetensors(path, ALL)
    except OSError as error:
        raise CannotImport(f"The file {path.name} cannot be read ({error.strerror}).") from error
    except SafetensorsError as error:
        raise CannotImport(f"The file {path.name} is no sound safetensors file: {error}.") from error
    for prefix, what in _STRANGERS:
        if any(name.startswith(prefix) for name in file.tensors):
            raise CannotImport(f"The file {path.name} is {what}, and only checkpoints of SDXL are imported.")
    packed = next((name for name in file.tensors if name.endswith(_QUANTIZED)), None)
    if packed is not None:
        raise CannotImport(
            f"The file {path.name} is quantized as its tensor '{packed:.100}' says, which is not read; import it in fp16 or fp8."
        )
    for prefix, what in ((_UNET, "UNet"), (_VAE + "decoder.", "VAE"), ("conditioner.embedders.0.", "text encoders")):
        if not any(name.startswith(prefix) for name in file.tensors):
            raise CannotImport(f"The file {path.name} has no {what} of SDXL: none of its tensors begins with '{prefix}'.")
    return file


class SingleFile:
    """A :class:`gpu_inference.importing.source.Source`."""

    tokenizer: Optional[Path] = None

    def __init__(self, path: Path) -> None:
        """Raises :class:`CannotImport` where the file is no checkpoint of SDXL, or of SDXL's refiner."""
        self._path = path
        self._file = _open(path)
        self._embedders = self._find_embedders()
        self.encoders = tuple(self._embedders)
        encoders = [self._encoder(name) for name in self.encoders]
        pooled = self._shape(f"conditioner.embedders.{self._embedders['text_encoder_2'][0]}.{_OPEN_CLIP}text_projection")[1]
        self.networks = NetworkConfigs(text_encoders=encoders, unet=self._unet(pooled), vae_decoder=self._decoder())
        unet = self.networks.unet
        attended = [len(unet.widths) - 1 - block for block, depth in enumerate(unet.transformers) if depth]
        self._original = OriginalNames(unet.layers, attended)
        self.facts = self._facts()

    def _shape(self, key: str) -> Tuple[int, ...]:
        if key not in self._file.tensors:
            raise CannotImport(f"The file {self._path.name} lacks the tensor '{key}' of SDXL.")
        return self._file.tensors[key].shape

    def _find_embedders(self) -> Dict[str, Tuple[int, str]]:
        """The number and the naming of each text encoder."""
        found: Dict[str, Tuple[int, str]] = {}
        for number in range(counted(self._file.tensors, "conditioner.embedders.")):
            prefix = f"conditioner.embedders.{number}."
            if any(name.startswith(prefix + _CLIP) for name in self._file.tensors):
                found[ENCODERS[0]] = (number, _CLIP)
            elif any(name.startswith(prefix + _OPEN_CLIP) for name in self._file.tensors):
                found[ENCODERS[1]] = (number, _OPEN_CLIP)
        if ENCODERS[1] not in found:
            raise CannotImport(f"The file {self._path.name} lacks the second text encoder of SDXL.")
        return found

    def _heads(self, width: int) -> int:
        if width % _HEAD:
            raise CannotImport(f"The file {self._path.name} has a layer of {width} channels, which are no heads of {_HEAD}.")
        return width // _HEAD

    def _encoder(self, name: str) -> TextEncoderConfig:
        number, naming = self._embedders[name]
        prefix = f"conditioner.embedders.{number}.{naming}"
        if naming == _CLIP:
            vocabulary, width = self._shape(prefix + "embeddings.token_embedding.weight")
            length = self._shape(prefix + "embeddings.position_embedding.weight")[0]
            layers = counted(self._file.tensors, prefix + "encoder.layers.")
        else:
            vocabulary, width = self._shape(prefix + "token_embedding.weight")
            length = self._shape(prefix + "positional_embedding")[0]
            layers = counted(self._file.tensors, prefix + "transformer.resblocks.")
        return TextEncoderConfig(
            vocabulary=vocabulary, length=length, width=width, layers=layers, heads=self._heads(width),
            activation="quick_gelu" if naming == _CLIP else "gelu", projected=naming == _OPEN_CLIP,
        )  # fmt: skip

    def _unet(self, pooled: int) -> UNetConfig:
        keys = self._file.tensors
        inputs = counted(keys, _UNET + "input_blocks.")
        samplers = [number for number in range(inputs) if f"{_UNET}input_blocks.{number}.0.op.weight" in keys]
        layers = samplers[0] - 1 if samplers else inputs - 1
        firsts = [1 + block * (layers + 1) for block in range(len(samplers) + 1)]
        widths = [self._shape(f"{_UNET}input_blocks.{first}.0.out_layers.3.weight")[0] for first in firsts]
        transformers = [counted(keys, f"{_UNET}input_blocks.{first}.1.transformer_blocks.") for first in firsts]
        middle = counted(keys, _UNET + "middle_block.1.transformer_blocks.")
        if not middle:
            raise CannotImport(f"The file {self._path.name} has a UNet without attention in its middle, so it is not SDXL's.")
        out_channels, in_channels = self._shape(_UNET + "out.2.weight")[0], self._shape(_UNET + "input_blocks.0.0.weight")[1]
        if in_channels != out_channels:
            raise CannotImport(f"The file {self._path.name} is for inpainting: its UNet takes {in_channels} channels.")
        numbers = 6 if ENCODERS[0] in self._embedders else 5
        waves = self._shape(_UNET + "label_emb.0.0.weight")[1] - pooled
        if waves <= 0 or waves % numbers:
            raise CannotImport(f"The file {self._path.name} has a UNet that does not take {numbers} time ids as SDXL's does.")
        return UNetConfig(
            in_channels=in_channels, out_channels=out_channels, widths=widths, layers=layers, transformers=transformers,
            middle_transformers=middle, heads=[self._heads(width) for width in widths],
            context_width=self._shape(_UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight")[1],
            time_id_width=waves // numbers, time_ids=numbers, pooled_width=pooled,
        )  # fmt: skip

    def _decoder(self) -> DecoderConfig:
        keys = self._file.tensors
        levels = counted(keys, _VAE + "decoder.up.")
        return DecoderConfig(
            latent_channels=self._shape(_VAE + "decoder.conv_in.weight")[1],
            widths=[self._shape(f"{_VAE}decoder.up.{level}.block.0.conv2.weight")[0] for level in range(levels)],
            layers=counted(keys, _VAE + "decoder.up.0.block.") - 1,
            post_quant=_VAE + "post_quant_conv.weight" in keys,
        )

    def _facts(self) -> Facts:
        metadata = {key: value[:500] for key, value in self._file.metadata.items()}
        said = (metadata.get("modelspec.prediction_type", "") + metadata.get("modelspec.predict_key", "")).lower()
        facts = Facts(license=metadata.get("modelspec.license", "")[:200])
        facts.hints = " ".join([self._path.stem, metadata.get("modelspec.title", "")]).lower()
        if "v_pred" in self._file.tensors or said in ("v", "v_prediction", "vpred"):
            facts.prediction_type = "v_prediction"
        elif said in ("epsilon", "eps"):
            facts.prediction_type = "epsilon"
        facts.zero_terminal_snr = "ztsnr" in self._file.tensors
        facts.pads = [None if name == ENCODERS[0] else 0 for name in self.encoders]
        return facts

    def tensor(self, network: str, name: str) -> Array:
        """See :class:`gpu_inference.importing.source.Source`."""
        found = self.optional(network, name)
        if found is None:
            raise CannotImport(f"The file {self._path.name} lacks a tensor of SDXL: '{name}' of the {network}.")
        return found

    def optional(self, network: str, name: str) -> Optional[Array]:
        """See :class:`gpu_inference.importing.source.Source`."""
        if network == UNET:
            module, _, part = name.rpartition(".")
            return self._read(f"{_UNET}{self._original(module)}.{part}")
        if network == DECODER:
            return self._read(_VAE + vae_name(name, len(self.networks.vae_decoder.widths)))
        number, naming = self._embedders[network]
        prefix = f"conditioner.embedders.{number}."
        return self._read(prefix + "transformer." + name) if naming == _CLIP else self._open_clip(prefix + _OPEN_CLIP, name)

    def _open_clip(self, prefix: str, name: str) -> Optional[Array]:
        if name == "text_projection.weight":
            found = self._read(prefix + "text_projection")
            return None if found is None else found.T
        fixed = {
            "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
            "text_model.embeddings.position_embedding.weight": "positional_embedding",
            "text_model.final_layer_norm.weight": "ln_final.weight",
            "text_model.final_layer_norm.bias": "ln_final.bias",
        }
        if name in fixed:
            return self._read(prefix + fixed[name])
        layered = _LAYER.fullmatch(name)
        if layered is None:
            return None
        layer, module, part = layered.groups()
        stem = f"{prefix}transformer.resblocks.{layer}."
        if module in _PARTS:  # one matrix holds all three
            joined = self._read(f"{stem}attn.in_proj_{part}")
            return None if joined is None else np.split(joined, len(_PARTS))[_PARTS.index(module)]
        return self._read(f"{stem}{_OPEN[module]}.{part}") if module in _OPEN else None

    def _read(self, key: str) -> Optional[Array]:
        if key not in self._file.tensors:
            return None
        try:
            value = self._file.read_exact(key)
            module, _, part = key.rpartition(".")
            scale = next((name for name in (f"{module}.{each}" for each in _SCALES) if name in self._file.tensors), None)
            if part != "weight" or scale is None:
                return value
            if self._file.tensors[scale].shape not in ((), (1,)):
                raise CannotImport(f"The file {self._path.name} has a scale '{scale:.100}' that is more than one number.")
            return value * self._file.read(scale).reshape(())
        except OSError as error:
            raise CannotImport(f"The file {self._path.name} cannot be read ({error.strerror}).") from error
        except SafetensorsError as error:
            raise CannotImport(f"The file {self._path.name} cannot be imported: {error}.") from error


_VAE_MODULES = (
    (re.compile(r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\."), "decoder.up.{0}.block.{1}."),
    (re.compile(r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.conv\."), "decoder.up.{0}.upsample.conv."),
)
_VAE_PLAIN = {
    "decoder.mid_block.resnets.0.": "decoder.mid.block_1.",
    "decoder.mid_block.resnets.1.": "decoder.mid.block_2.",
    "decoder.mid_block.attentions.0.": "decoder.mid.attn_1.",
    "decoder.conv_norm_out.": "decoder.norm_out.",
}
_VAE_PARTS = {
    "conv_shortcut.": "nin_shortcut.",
    "group_norm.": "norm.",
    "to_q.": "q.",
    "to_k.": "k.",
    "to_v.": "v.",
    "to_out.0.": "proj_out.",
}


def vae_name(name: str, levels: int) -> str:
    """The original name of a tensor of the VAE; the original counts its levels from the finest."""
    for pattern, form in _VAE_MODULES:
        found = pattern.match(name)
        if found is not None:
            name = form.format(levels - 1 - int(found.group(1)), *found.groups()[1:]) + name[found.end() :]
    for old, new in _VAE_PLAIN.items():
        if name.startswith(old):
            name = new + name[len(old) :]
    module, _, part = name.rpartition(".")
    for old, new in _VAE_PARTS.items():
        if (module + ".").endswith("." + old):
            return f"{(module + '.')[: -len(old)]}{new}{part}"
    return name
