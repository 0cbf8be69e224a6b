"""Finds models and LoRAs in the folders that an engine is given.

A folder with a manifest is a model. Any other may be a library: the folders in it that have a manifest are models, in
the order of their names. The safetensors files of a folder ``loras``, in a library or in a model, are LoRAs.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Sequence

from gpu_inference.engine.loras import SUFFIX
from gpu_inference.engine.manifest import MANIFEST

LORAS = "loras"


class Found(NamedTuple):
    """Folders of models and files of LoRAs, in the order in which they were found."""

    models: List[Path]
    loras: List[Path]


def find(paths: Sequence[Path]) -> Found:
    """What is in ``paths``. One that is neither model nor library is taken for a model, which will say what it lacks."""
    found = Found([], [])
    for path in paths:
        models = [path] if (path / MANIFEST).exists() else sorted(file.parent for file in path.glob("*/" + MANIFEST))
        loras = sorted((path / LORAS).glob("*" + SUFFIX))
        found.models.extend(models or ([] if loras else [path]))
        found.loras.extend(loras)
    return found
