"""Can nodes use what is in the store, and what does it say of itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from fleet_api.errors import InvalidValue
from fleet_api.models.kinds import CHECKPOINT, SUFFIX, is_name
from fleet_api.models.safetensors import Header

ENGINE_MANIFEST = "manifest.json"
"""What makes a folder a model that engines run: they read it themselves."""

MAX_MANIFEST = 1024 * 1024
ONE_FILE = "It is a checkpoint of one file, which nodes do not run as it is: import it with 'fleet models import', or by its row."
NO_BASE = "It does not say which model it is for; delete it, and upload it again with 'base'."
OTHER_NAMES = "Its tensors are not named as those of a LoRA of SDXL, in the way of diffusers, PEFT or kohya."
_OTHER_SIDES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2"}
"""How long the text's vectors are that other models attend to; SDXL's are of 2048, and every model that nodes run is one like it."""

_OF_TEXT = re.compile(
    r"(unet\.|lora_unet_).+attn2[._](processor\.)?to_[kv](_lora|\.lora(_linear_layer)?)?(\.lora_A(\.default)?|\.(lora_)?down)\.weight"
)
_LORA_TENSOR = re.compile(
    r"(unet|text_encoder|text_encoder_2)\..+(\.lora_[AB](\.default)?|\.lora(_linear_layer)?\.(down|up)|_lora\.(down|up))\.weight"
    r"|lora_(unet|te1|te2)_.+\.(lora_(down|up)\.weight|alpha)"
    r"|(unet|text_encoder|text_encoder_2)\..+\.alpha"
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """``note`` says why nodes cannot use it; empty where they can. ``needed`` are the files that nodes fetch.

    ``foreign`` is something that no words beside it make one that nodes can use.
    """

    note: str
    base: str = ""
    native_size: int = 0
    needed: tuple[str, ...] = field(default=())
    foreign: bool = False


def of_safetensors(kind: str, header: Header, base: str) -> Judgement:
    """Judge one sound safetensors file."""
    if kind == CHECKPOINT:
        return Judgement(ONE_FILE, base)
    base = base or header.metadata.get("base_model", "")[:200]
    based = bool(base) and is_name(base)
    if not all(_LORA_TENSOR.fullmatch(name) for name in header.tensors):
        return Judgement(OTHER_NAMES, base if based else "", foreign=True)
    other = _other_model(header)
    if other:
        return Judgement(other, base if based else "", foreign=True)
    return Judgement("", base) if based else Judgement(NO_BASE)


def _other_model(header: Header) -> str:
    """Say which model's LoRA it is by what it attends to; empty for one that may be SDXL's."""
    for name, shape in header.tensors.items():
        side = shape[1] if len(shape) > 1 else 0
        if side in _OTHER_SIDES and _OF_TEXT.fullmatch(name):
            return f"It is a LoRA for {_OTHER_SIDES[side]}: {name[:100]!a} takes vectors of {side}, and SDXL's are of 2048."
    return ""


def of_folder(name: str, manifest: bytes, sizes: dict[str, int]) -> Judgement:
    """Judge a model of several files by its engine manifest. Raises InvalidValue with why it is none."""
    try:
        said: dict[str, Any] = json.loads(manifest)
        digests, native = said["sha256"], said["native_size"]
        wanted = tuple(sorted({ENGINE_MANIFEST, *digests}))
        called = said["name"]
        sound = isinstance(native, int) and all(isinstance(each, str) for each in (called, *digests.values()))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidValue(f"its {ENGINE_MANIFEST} is not one of an engine") from None
    if not sound or said.get("format") != 1:
        raise InvalidValue(f"its {ENGINE_MANIFEST} is not one of an engine")
    if called != name:
        raise InvalidValue(f"its {ENGINE_MANIFEST} calls it {str(called)[:60]!r}; its folder must be called so too")
    missing = [each for each in wanted if each not in sizes]
    if missing:
        raise InvalidValue(f"the file {missing[0][:60]} of its {ENGINE_MANIFEST} is not there")
    return Judgement("", native_size=native, needed=wanted)


def manifest_digests(manifest: bytes) -> dict[str, str]:
    """Return the checksums that an engine manifest tells of its files; :func:`of_folder` has found it sound."""
    return dict(json.loads(manifest)["sha256"])


def lone_file(files: list[str]) -> str | None:
    """Return the one safetensors file of a folder that is no engine's model."""
    found = [each for each in files if each.lower().endswith(SUFFIX)]
    return found[0] if len(found) == 1 and len(files) == 1 else None
