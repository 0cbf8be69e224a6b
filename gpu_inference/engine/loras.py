"""LoRAs: small files that change a model's weights by products of two thin matrices (Hu et al. 2021).

Read in the naming of diffusers and PEFT: ``unet.<module>.lora_A.weight`` ``[rank, in, ...]`` and
``unet.<module>.lora_B.weight`` ``[out, rank, ...]``. The file's metadata says what it is for: ``base_model`` (needed),
``name`` (else the file's), ``alpha`` (else the rank) and ``trigger_words``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.errors import BadRequest, LoraError, UnknownLora
from gpu_inference.engine.safetensors import Safetensors, SafetensorsError, open_safetensors
from gpu_inference.protocol import LoraInfo

Array = npt.NDArray[Any]
SUFFIX = ".safetensors"
_PREFIX, _DOWN, _UP = "unet.", ".lora_A.weight", ".lora_B.weight"
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Lora:
    """A LoRA on disk, its header checked. ``alpha`` None is the rank of each change, a factor of one."""

    file: Safetensors
    name: str
    base_model: str
    alpha: Optional[float]
    trigger_words: str

    @property
    def modules(self) -> Dict[str, int]:
        """The rank of the change of each of the UNet's modules, such as ``mid_block.attentions.0.proj_in``."""
        downs = (name for name in self.file.tensors if name.endswith(_DOWN))
        return {name[len(_PREFIX) : -len(_DOWN)]: self.file.tensors[name].shape[0] for name in downs}

    def info(self) -> LoraInfo:
        """The LoRA as the control plane is told of it."""
        size = self.file.path.stat().st_size
        return LoraInfo(name=self.name, base_model=self.base_model, size_bytes=size, trigger_words=self.trigger_words)

    def change(self, module: str) -> Array:
        """What is added to a module's weight at strength 1, ``alpha / rank * B @ A``, float32 ``[out, in, ...]``.

        Raises :class:`LoraError` where the file cannot be read any more.
        """
        try:
            down, up = self.file.read(_PREFIX + module + _DOWN), self.file.read(_PREFIX + module + _UP)
        except (OSError, ValueError) as error:
            raise LoraError(f"The LoRA '{self.name}' cannot be read any more.") from error
        rank = down.shape[0]
        factor = 1.0 if self.alpha is None else self.alpha / rank
        product = up.reshape(up.shape[0], rank) @ down.reshape(rank, -1)
        return np.asarray(product * np.float32(factor)).reshape(up.shape[0], *down.shape[1:])


def _alpha(text: Optional[str]) -> Optional[float]:
    if text is None:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise SafetensorsError("its alpha is not a number")
    return value


def _check_pairs(file: Safetensors) -> None:
    """Raises :class:`SafetensorsError` unless every tensor is one of a pair that can be multiplied."""
    for name, tensor in file.tensors.items():
        stem, _, part = name.rpartition(".lora_")
        if not name.startswith(_PREFIX) or part not in ("A.weight", "B.weight"):
            raise SafetensorsError(f"'{name:.100}' is not the name of a change of the UNet")
        down, up = file.tensors.get(stem + _DOWN), file.tensors.get(stem + _UP)
        if down is None or up is None:
            raise SafetensorsError(f"'{name:.100}' has no counterpart")
        thin = all(side == 1 for side in up.shape[2:])
        if len(tensor.shape) < 2 or not thin or up.shape[1] != down.shape[0] or down.shape[0] == 0:
            raise SafetensorsError(f"the two parts of '{stem:.100}' do not fit")
    if not file.tensors:
        raise SafetensorsError("it changes nothing")


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
        _check_pairs(file)
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
    return Lora(file, name, base, alpha, said.get("trigger_words", ""))


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
