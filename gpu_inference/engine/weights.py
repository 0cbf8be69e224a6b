"""Where in a graph's file the weights of its modules lie, so that they can be changed without a parser of graphs.

The map is a JSON file beside the graph, written at export and named by the manifest: for each module the name of its
initialiser, the place of its bytes, and whether the graph holds it transposed. The bytes are changed before a runtime
sees them: ONNX Runtime's own way to replace an initialiser comes after it has folded constants, so that one stored in
fp16 and cast at load would keep its old value.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, List, Literal, Optional, Sequence, Set, Tuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpu_inference.engine.errors import ModelError, UnfitLora
from gpu_inference.engine.lora_names import joined_names
from gpu_inference.engine.loras import Applied, Lora, Place
from gpu_inference.engine.manifest import FILE_NAME

Array = npt.NDArray[Any]


class Weight(BaseModel):
    """A module's weight; ``shape`` is that of the initialiser, so turned round where ``transposed``."""

    model_config = ConfigDict(extra="ignore")

    initializer: str
    offset: int = Field(ge=0)
    dtype: Literal["float16", "float32"]
    shape: List[int]
    transposed: bool = False


class WeightMap(BaseModel):
    """The weights of a graph by module, named as in diffusers; ``data`` is the file that they lie in, where it is not the graph's.

    ``vectors`` are the tensors of one axis by their whole names; graphs hold copies of them.
    """

    model_config = ConfigDict(extra="ignore")

    format: Literal[1]
    data: Optional[str] = Field(default=None, pattern=FILE_NAME)
    weights: Dict[str, Weight]
    vectors: Dict[str, Weight] = Field(default_factory=dict)
    unread: List[str] = Field(default_factory=list)
    """Modules whose weights change no picture, as those of CLIP's last layer; LoRAs may change them, and nothing comes of it."""


def load_weight_map(path: Path) -> WeightMap:
    """Reads a map. Raises :class:`ModelError`."""
    try:
        return WeightMap.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValidationError, ValueError) as error:
        raise ModelError(f"The map of weights {path} cannot be read.") from error


def _places(lora: Lora, network: str, known: WeightMap) -> Dict[str, List[Place]]:
    """Which module of ``network`` each change of ``lora`` is for. Raises :class:`UnfitLora` where there is none of its shape."""
    found: Dict[str, List[Place]] = {}
    joined: Optional[Dict[str, str]] = None
    for place in lora.parts:
        if place[0] != network:
            continue
        if place[2] and joined is None:
            joined = joined_names([*known.weights, *known.unread])
        module = (joined or {}).get(place[1], "") if place[2] else place[1]
        if module in known.unread:
            continue
        weight, shape = known.weights.get(module), lora.shape(place)
        if weight is not None and len(shape) == 4 and shape[2:] == [1, 1] and len(weight.shape) == 2:
            shape = shape[:2]
        if weight is None or shape != (weight.shape[::-1] if weight.transposed else weight.shape):
            raise UnfitLora(f"The LoRA '{lora.name}' does not fit its model: there is no weight '{place[1]:.100}' of {shape}.")
        found.setdefault(module, []).append(place)
    return found


def places_of(applied: Sequence[Applied], network: str, known: WeightMap) -> Set[str]:
    """The modules of a network that LoRAs change."""
    return {module for lora, _ in applied for module in _places(lora, network, known)}


def stored_weights(file: Path, known: WeightMap, modules: Iterable[str]) -> Dict[str, Array]:
    """Weights as they are stored. Raises :class:`ModelError`."""
    try:
        with file.open("rb") as stream:
            return {module: _read(stream, known.weights[module]) for module in modules}
    except (OSError, ValueError) as error:
        raise ModelError(f"The file {file} does not hold what its map of weights says.") from error


def changed_weights(file: Path, known: WeightMap, network: str, applied: Sequence[Applied]) -> Dict[str, Array]:
    """What LoRAs make of a network's weights: by module, as they are stored in ``file``, in its precision.

    Raises :class:`UnfitLora` where one changes what the model does not have, :class:`ModelError`.
    """
    changes: Dict[str, List[Tuple[Lora, float, Place]]] = {}
    for lora, strength in applied:
        for module, places in _places(lora, network, known).items():
            changes.setdefault(module, []).extend((lora, strength, place) for place in places)
    changed: Dict[str, Array] = {}
    try:
        with file.open("rb") as stream:
            for module, parts in changes.items():  # one by one: the sums are larger than what is stored
                weight = known.weights[module]
                value = _read(stream, weight).astype(np.float32)
                for lora, strength, place in parts:
                    change = np.float32(strength) * lora.change(place)
                    value += change.reshape(weight.shape[::-1]).T if weight.transposed else change.reshape(weight.shape)
                changed[module] = value.astype(weight.dtype)
    except (OSError, ValueError) as error:
        raise ModelError(f"The file {file} does not hold what its map of weights says.") from error
    return changed


def _read(stream: BinaryIO, weight: Weight) -> Array:
    stream.seek(weight.offset)
    data = stream.read(int(np.prod(weight.shape)) * np.dtype(weight.dtype).itemsize)
    return np.frombuffer(data, weight.dtype).reshape(weight.shape)


def changed_graph(graph: Path, known: WeightMap, network: str, applied: Sequence[Applied]) -> bytes:
    """The file of a graph that holds its weights itself, with those that LoRAs change. Raises as :func:`changed_weights`."""
    changed = changed_weights(graph, known, network, applied)
    try:
        data = bytearray(graph.read_bytes())
    except OSError as error:
        raise ModelError(f"The graph {graph} cannot be read ({error.strerror}).") from error
    for module, value in changed.items():
        begin = known.weights[module].offset
        data[begin : begin + value.nbytes] = np.ascontiguousarray(value).tobytes()
    return bytes(data)
