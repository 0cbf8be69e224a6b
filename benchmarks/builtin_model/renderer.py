"""Renders prompts as a node does: through the engine's own pipeline, at the API's default guidance unless told otherwise."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request

API_GUIDANCE = 7.5


class Renderer:
    """A loaded model folder."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        self._pipeline = Pipeline.load(load_model_folder(folder), threads)

    def render(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        size: tuple[int, int] = (128, 128),
        steps: int = 20,
        guidance: float = API_GUIDANCE,
    ) -> list[npt.NDArray[np.uint8]]:
        """Return one RGB picture ``[height, width, 3]`` for each text and seed."""
        return [self._one(text, seed, size, steps, guidance) for text, seed in zip(texts, seeds, strict=True)]

    def _one(self, text: str, seed: int, size: tuple[int, int], steps: int, guidance: float) -> npt.NDArray[np.uint8]:
        asked = {"prompt": text, "seed": seed, "width": size[0], "height": size[1], "steps": steps, "guidance_scale": guidance}
        made = self._pipeline.render(parse_request(asked))
        with Image.open(io.BytesIO(made.png)) as picture:
            return np.asarray(picture.convert("RGB"))
