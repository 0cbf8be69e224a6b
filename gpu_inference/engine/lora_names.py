"""How LoRA files name what they change: as diffusers and PEFT do, and as kohya's trainer does.

diffusers and PEFT: ``unet.<module>.lora_A.weight`` or ``.lora.down.weight``, ``text_encoder.<module>.lora_linear_layer.down.weight``,
and the older ``….processor.to_q_lora.down.weight``. kohya: ``lora_unet_<module>.lora_down.weight`` with underscores for dots, in
diffusers' names or the original code's, ``lora_te1_``, ``lora_te2_``, and ``.alpha``.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, NamedTuple, Optional

from gpu_inference.engine.network.names import original_names

NETWORKS = ("unet", "text_encoder", "text_encoder_2")
DOWN, UP, ALPHA = "down", "up", "alpha"
_ENDINGS = {
    ".lora_A.weight": DOWN,
    ".lora_B.weight": UP,
    ".lora_A.default.weight": DOWN,
    ".lora_B.default.weight": UP,
    ".lora.down.weight": DOWN,
    ".lora.up.weight": UP,
    ".lora_linear_layer.down.weight": DOWN,
    ".lora_linear_layer.up.weight": UP,
    ".lora_down.weight": DOWN,
    ".lora_up.weight": UP,
    ".lora.alpha": ALPHA,
    ".lora_linear_layer.alpha": ALPHA,
    ".alpha": ALPHA,
}
_PROCESSOR = re.compile(r"(.+)\.processor\.(to_q|to_k|to_v|to_out)_lora\.(?:(down|up)\.weight|(alpha))")
_KOHYA = {"lora_unet_": "unet", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
OTHERS = {
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "dora_scale": "a DoRA",
    "lora_mid": "a LoRA with a core between its two parts",
    "lora_te_": "a LoRA for Stable Diffusion 1 or 2",
    "lora_transformer": "a LoRA for Flux or Stable Diffusion 3",
    "transformer.": "a LoRA for Flux or Stable Diffusion 3",
}
"""Marks of what is not read."""


class Name(NamedTuple):
    """What a tensor is: the ``part`` of the change of ``module`` of ``network``; ``joined`` where underscores stand for dots too."""

    network: str
    module: str
    part: str
    joined: bool


def parse(name: str) -> Optional[Name]:
    """What the tensor ``name`` is, or None for one that is no part of a LoRA."""
    found = _PROCESSOR.fullmatch(name)
    if found is not None:
        place, projection, part, alpha = found.groups()
        module, ending = f"{place}.{'to_out.0' if projection == 'to_out' else projection}", part or alpha
    else:
        known = next((each for each in _ENDINGS if name.endswith(each)), None)
        if known is None:
            return None
        module, ending = name[: -len(known)], _ENDINGS[known]
    for prefix, network in _KOHYA.items():
        if module.startswith(prefix):
            return Name(network, module[len(prefix) :], ending, True)
    network, dot, rest = module.partition(".")
    return Name(network, rest, ending, False) if dot and network in NETWORKS else None


def joined_names(modules: Iterable[str]) -> Dict[str, str]:
    """A network's modules by their names with underscores: diffusers' and, for a UNet, the original code's."""
    modules = list(modules)
    original = original_names(modules)
    found: Dict[str, str] = {}
    for module in modules:
        found[module.replace(".", "_")] = module
        try:
            found[original(module).replace(".", "_")] = module
        except KeyError:
            continue
    return found
