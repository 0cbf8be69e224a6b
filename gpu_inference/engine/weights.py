"""Where in a graph's file the weights of its modules lie, so that they can be changed without a parser of graphs.

The map is a JSON file beside the graph, written at export and named by the manifest: for each module the name of its
initialiser, the place of its bytes, and whether the graph holds it transposed. The bytes are changed before a runtime
sees them: ONNX Runtime's own way to replace an initialiser comes after it has folded constants, so that one stored in
fp16 and cast at load would keep its old value.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpu_inference.engine.errors import LoraError, ModelError
from gpu_inference.engine.loras import Lora


class Weight(BaseModel):
    """A module's weight; ``shape`` is that of the initialiser, so turned round where ``transposed``."""

    model_config = ConfigDict(extra="ignore")

    initializer: str
    offset: int = Field(ge=0)
    dtype: Literal["float16", "float32"]
    shape: List[int]
    transposed: bool = False


class WeightMap(BaseModel):
    """The weights of a graph by module, named as in the UNet of diffusers."""

    model_config = ConfigDict(extra="ignore")

    format: Literal[1]
    weights: Dict[str, Weight]


def load_weight_map(path: Path) -> WeightMap:
    """Reads a map. Raises :class:`ModelError`."""
    try:
        return WeightMap.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValidationError, ValueError) as error:
        raise ModelError(f"The map of weights {path} cannot be read.") from error


def changed_graph(graph: Path, known: WeightMap, lora: Lora, strength: float) -> bytes:
    """The graph's file with ``W + strength * change`` in place of the weights that ``lora`` changes, in its precision.

    Raises :class:`LoraError` where the LoRA changes what the model does not have, :class:`ModelError`.
    """
    try:
        data = bytearray(graph.read_bytes())
    except OSError as error:
        raise ModelError(f"The graph {graph} cannot be read ({error.strerror}).") from error
    for module in lora.modules:
        weight = known.weights.get(module)
        change = lora.change(module)
        if weight is None or list(change.shape) != (weight.shape[::-1] if weight.transposed else weight.shape):
            raise LoraError(f"The LoRA '{lora.name}' does not fit its model: there is no weight '{module:.100}' of {list(change.shape)}.")
        try:
            value = np.frombuffer(data, weight.dtype, int(np.prod(weight.shape)), weight.offset).reshape(weight.shape)
        except ValueError as error:
            raise ModelError(f"The graph {graph} does not hold what its map of weights says.") from error
        value += np.float32(strength) * (change.T if weight.transposed else change)
    return bytes(data)
