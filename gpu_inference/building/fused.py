"""A network's graph with LoRAs in its weights, for an engine that cannot be refitted: a copy that lasts as long as it is built from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List, Sequence

import numpy as np

from gpu_inference.building.plan_folder import sha256_of
from gpu_inference.engine.errors import LoraError
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder, NetworkPart
from gpu_inference.engine.weights import changed_weights, load_weight_map


def touching(part: NetworkPart, loras: Sequence[Applied]) -> List[Applied]:
    """The LoRAs that change a network."""
    return [each for each in loras if each.strength and any(network == part.network for network, _, _ in each.lora.parts)]


def said_of(loras: Sequence[Applied]) -> List[List[object]]:
    """The LoRAs as an engine's identity has them: by the SHA-256 of their files, and their strengths."""
    return sorted([sha256_of(each.lora.file.path), round(float(each.strength), 6)] for each in loras)


def fused_graph(folder: ModelFolder, part: NetworkPart, loras: Sequence[Applied], place: Path) -> Path:
    """Writes the graph, and its weights with those of the LoRAs, into the folder ``place``; returns the graph's path.

    Raises :class:`LoraError` where one does not fit, :class:`OSError`.
    """
    if part.weights is None or part.data is None:
        raise LoraError(f"The model '{folder.name}' takes no LoRA: it has no map of its weights.")
    known = load_weight_map(folder.file(part.weights))
    source = folder.file(known.data or part.file)
    graph = folder.file(part.tensorrt or part.file)
    for each in {source.name, part.data}:
        shutil.copyfile(str(folder.file(each)), str(place / each))
    shutil.copyfile(str(graph), str(place / graph.name))
    with (place / source.name).open("rb+") as stream:
        for module, value in changed_weights(source, known, part.network, loras).items():
            stream.seek(known.weights[module].offset)
            stream.write(np.ascontiguousarray(value).tobytes())
    return place / graph.name
