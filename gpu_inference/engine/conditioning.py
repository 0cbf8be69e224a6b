"""What a picture is made from, as plain arrays on the host: a backend's ``prepare`` takes it to its device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.manifest import Manifest
from gpu_inference.engine.sizes import SizePlan
from gpu_inference.engine.tokenizer import Tokenizer, Tokens, pad

Ids = Tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class Conditioning:
    """The inputs that stay the same for all steps.

    ``prompt`` and ``negative`` hold one int64 ``[1, length]`` an encoder; ``negative`` is None without guidance.
    ``time_ids`` is float32 ``[1, 6]``, and ``[1, 5]`` for a refiner. ``guidance_rescale`` is 0 to 1.
    """

    prompt: Ids
    negative: Optional[Ids]
    time_ids: npt.NDArray[np.float32]
    negative_time_ids: npt.NDArray[np.float32]
    guidance_scale: float
    guidance_rescale: float


AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5
"""What SDXL's refiner is told, which was trained on rated pictures."""


def time_ids(names: Sequence[str], plan: SizePlan, score: float = AESTHETIC_SCORE) -> npt.NDArray[np.float32]:
    """SDXL's micro-conditioning, float32 ``[1, len(names)]``: an uncropped picture of the native size."""
    values = {
        "original_height": plan.native_height,
        "original_width": plan.native_width,
        "crop_top": 0,
        "crop_left": 0,
        "target_height": plan.native_height,
        "target_width": plan.native_width,
        "aesthetic_score": score,
    }
    return np.array([[values[name] for name in names]], dtype=np.float32)


def guidance_rescale(manifest: Manifest, guidance_scale: float) -> float:
    """How strongly guidance is rescaled (Lin et al. 2023, section 3.4).

    Nothing up to the guidance a model was made for, rising to its ``max_guidance_rescale`` at twice that: strong
    guidance over-exposes a model of zero terminal SNR.
    """
    if manifest.default_guidance <= 0:
        return manifest.max_guidance_rescale
    excess = guidance_scale / manifest.default_guidance - 1.0
    return manifest.max_guidance_rescale * min(max(excess, 0.0), 1.0)


def build(
    manifest: Manifest, tokenizer: Tokenizer, prompt: str, negative: str, guidance: float, plan: SizePlan
) -> Tuple[Conditioning, int, Tuple[str, ...]]:
    """The conditioning of a request, how many tokens of its prompts did not fit, and the prompt's words that the model lacks."""

    def ids(text: str) -> Tuple[Ids, Tokens]:
        tokens = tokenizer.encode(text)
        rows = tuple(pad(tokens.ids, tokenizer.max_length, encoder.pad_token_id) for encoder in manifest.text_encoders)
        return rows, tokens

    guided = guidance > 1.0
    positive_ids, read = ids(prompt)
    negative_ids, negative_read = ids(negative) if guided else (None, None)
    conditioning = Conditioning(
        prompt=positive_ids,
        negative=negative_ids,
        time_ids=time_ids(manifest.time_ids, plan),
        negative_time_ids=time_ids(manifest.time_ids, plan, NEGATIVE_AESTHETIC_SCORE),
        guidance_scale=guidance if guided else 1.0,
        guidance_rescale=guidance_rescale(manifest, guidance) if guided else 0.0,
    )
    return conditioning, read.dropped + (negative_read.dropped if negative_read else 0), read.unknown
