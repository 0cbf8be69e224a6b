"""LoRAs: small files that change a model's weights by products of two thin matrices (Hu et al. 2021).

Read in the names of diffusers and PEFT and in those of kohya's trainer (:mod:`gpu_inference.engine.lora_names`): a part ``down``
``[rank, in, ...]``, a part ``up`` ``[out, rank, ...]`` and perhaps an ``alpha`` a module. The file's metadata says what it is for:
``base_model`` (needed), ``name`` (else the file's), ``alpha`` (for modules without their own; else the rank) and ``trigger_words``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import numpy.typing as npt

from gpu_inference.engine import lora_names
from gpu_inference.engine.errors import BadRequest, LoraError, UnfitLora, UnknownLora
from gpu_inference.engine.lora_names import ALPHA, DOWN, UP
from gpu_inference.engine.safetensors import Safetensors, SafetensorsError, open_safetensors
from gpu_inference.protocol import LoraInfo

Array = npt.NDArray[Any]
SUFFIX = ".safetensors"
_LONGEST_NAME = 200


Place = Tuple[str, str, bool]
"""A network, a module of it, and whether underscores stand for the dots of the module's name too."""


@dataclass(frozen=True)
class Lora:
    """A LoRA on disk, its header checked. ``alpha`` None is the rank of each change, a factor of one.

    ``parts`` names the tensors of each change: ``down``, ``up`` and perhaps ``alpha``.
    """

    file: Safetensors
    name: str
    base_model: str
    alpha: Optional[float]
    trigger_words: str
    parts: Dict[Place, Dict[str, str]]

    def info(self) -> LoraInfo:
        """The LoRA as the control plane is told of it."""
        size = self.file.path.stat().st_size
        return LoraInfo(name=self.name, base_model=self.base_model, size_bytes=size, trigger_words=self.trigger_words)

    def shape(self, place: Place) -> List[int]:
        """The shape of the weight that a change is for, ``[out, in, ...]``."""
        parts = self.parts[place]
        return [self.file.tensors[parts[UP]].shape[0], *self.file.tensors[parts[DOWN]].shape[1:]]

    def change(self, place: Place) -> Array:
        """What is added to a module's weight at strength 1, ``alpha / rank * up @ down``, float32 ``[out, in, ...]``.

        Raises :class:`LoraError` where the file cannot be read any more, :class:`UnfitLora` where it holds what is no number.
        """
        parts = self.parts[place]
        try:
            down, up = self.file.read(parts[DOWN]), self.file.read(parts[UP])
            alpha = float(self.file.read(parts[ALPHA]).reshape(-1)[0]) if ALPHA in parts else self.alpha
        except (OSError, ValueError, IndexError) as error:
            raise LoraError(f"The LoRA '{self.name}' cannot be read any more.") from error
        rank = down.shape[0]
        factor = 1.0 if alpha is None else alpha / rank
        product = up.reshape(up.shape[0], rank) @ down.reshape(rank, -1) * np.float32(factor)
        if not np.isfinite(product).all():
            raise UnfitLora(f"The LoRA '{self.name}' holds values that are not numbers ('{parts[DOWN]:.100}').")
        return np.asarray(product).reshape(up.shape[0], *down.shape[1:])


class Applied(NamedTuple):
    """A LoRA and how strongly it is applied."""

    lora: Lora
    strength: float


def _alpha(text: Optional[str]) -> Optional[float]:
    if text is None:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise SafetensorsError("its alpha is not a number")
    return value


def _sort(file: Safetensors) -> Dict[Place, Dict[str, str]]:
    """The tensors of each change. Raises :class:`SafetensorsError` unless each is part of one that can be multiplied."""
    found: Dict[Place, Dict[str, str]] = {}
    for tensor in file.tensors:
        other = next((what for mark, what in lora_names.OTHERS.items() if tensor.startswith(mark) or "." + mark in tensor), None)
        if other is not None:
            raise SafetensorsError(f"it is {other}, which is not read")
        name = lora_names.parse(tensor)
        if name is None:
            raise SafetensorsError(f"'{tensor:.100}' is not the name of a change of SDXL's networks")
        parts = found.setdefault((name.network, name.module, name.joined), {})
        if name.part in parts:
            raise SafetensorsError(f"'{tensor:.100}' and '{parts[name.part]:.100}' are the same part of one change")
        parts[name.part] = tensor
    for (_, module, _), parts in found.items():
        if DOWN not in parts or UP not in parts:
            raise SafetensorsError(f"'{next(iter(parts.values())):.100}' has no counterpart")
        down, up = (file.tensors[parts[part]].shape for part in (DOWN, UP))
        thin = all(side == 1 for side in up[2:])
        if min(len(down), len(up)) < 2 or not thin or up[1] != down[0] or down[0] == 0:
            raise SafetensorsError(f"the two parts of '{module:.100}' do not fit")
    if not found:
        raise SafetensorsError("it changes nothing")
    return found


def _beside(path: Path) -> Dict[str, str]:
    """What a file of JSON beside a LoRA says of it: the name and the base that it has in the fleet, whatever its own metadata say."""
    try:
        said = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in said.items() if isinstance(value, str) and value} if isinstance(said, dict) else {}


def load_lora(path: Path) -> Lora:
    """Reads and checks a LoRA's header. Raises :class:`LoraError` with one sentence."""
    try:
        file = open_safetensors(path)
        parts = _sort(file)
        alpha = _alpha(file.metadata.get("alpha"))
    except OSError as error:
        raise LoraError(f"The LoRA {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise LoraError(f"The file {path} is no LoRA that can be used: {error}.") from error
    said = dict(file.metadata, **_beside(path))
    base = said.get("base_model", "")
    if not base:
        raise LoraError(f"The LoRA {path} does not say which model it is for (base_model in its metadata).")
    name = (said.get("name") or path.stem)[:_LONGEST_NAME]
    return Lora(file, name, base, alpha, said.get("trigger_words", ""), parts)


def choose(loras: Dict[str, Lora], name: Optional[str], model: str) -> Optional[Lora]:
    """The LoRA ``name`` for ``model``; None for no name.

    Raises :class:`UnknownLora` where it is not among ``loras``, :class:`BadRequest` where it is for another model.
    """
    if name is None:
        return None
    if name not in loras:
        raise UnknownLora("The LoRA '{:.100}' is not on this node; there are: {}.".format(name, ", ".join(loras) or "none"))
    if loras[name].base_model != model:
        base = loras[name].base_model
        raise BadRequest(f"The LoRA '{name:.100}' is for the model '{base:.100}' and cannot be used with '{model:.100}'.")
    return loras[name]
