"""Proves an imported model by one step and one decoding of a picture as small as its networks take, before it is kept."""

from __future__ import annotations

import numpy as np

from gpu_inference.engine.backends.onnx import OnnxBackend
from gpu_inference.engine.conditioning import Conditioning
from gpu_inference.engine.errors import EngineError
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.importing.source import CannotImport

_SIDE = 8
"""Of the latents, in latent pixels: enough for a UNet that halves them three times."""


def prove(folder: ModelFolder) -> None:
    """Raises :class:`CannotImport` where the networks do not fit together, or give what is no number."""
    manifest = folder.manifest
    ids = np.zeros((1, manifest.tokenizer.max_length), dtype=np.int64)
    row = tuple(ids for _ in manifest.text_encoders)
    numbers = np.zeros((1, len(manifest.time_ids)), dtype=np.float32)
    latents = np.zeros((1, manifest.latent_channels, _SIDE, _SIDE), dtype=np.float32)
    try:
        backend = OnnxBackend(folder)
        backend.prepare([Conditioning(row, None, numbers, numbers, 1.0, 0.0)])
        results = backend.denoise(latents, 500.0), backend.decode(latents)
        backend.close()
    except EngineError as error:
        said = str(error).replace(f"{folder.path}/", "")
        raise CannotImport(f"The checkpoint's networks do not fit together: {said}") from error
    if not all(np.isfinite(result).all() for result in results):
        raise CannotImport("The checkpoint's networks give values that are not numbers.")
