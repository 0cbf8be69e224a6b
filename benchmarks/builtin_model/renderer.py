"""Renders prompts as a node does: through the engine's own pipeline, at the API's default guidance unless told otherwise."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gpu_inference.engine.loras import Applied, load_lora
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import DEFAULT_LORA_STRENGTH, parse_request

API_GUIDANCE = 7.5


class Renderer:
    """A loaded model folder, with or without a LoRA."""

    def __init__(self, folder: Path, threads: int = 0, lora: Path | None = None, strength: float = DEFAULT_LORA_STRENGTH) -> None:
        self._pipeline = Pipeline.load(load_model_folder(folder), threads)
        self._loras = [Applied(load_lora(lora), strength)] if lora is not None else []

    def render(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        size: tuple[int, int] = (128, 128),
        steps: int = 20,
        guidance: float = API_GUIDANCE,
        sampler: str = "euler",
    ) -> list[npt.NDArray[np.uint8]]:
        """Return one RGB picture ``[height, width, 3]`` for each text and seed."""
        return [self._one(text, seed, size, steps, guidance, sampler) for text, seed in zip(texts, seeds, strict=True)]

    def _one(self, text: str, seed: int, size: tuple[int, int], steps: int, guidance: float, sampler: str) -> npt.NDArray[np.uint8]:
        width, height = size
        asked = {"prompt": text, "seed": seed, "width": width, "height": height, "steps": steps, "guidance_scale": guidance}
        made = self._pipeline.render(parse_request({**asked, "scheduler": sampler}), loras=self._loras)
        with Image.open(io.BytesIO(made.png)) as picture:
            return np.asarray(picture.convert("RGB"))
