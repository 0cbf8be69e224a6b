"""How an imported model is to be used: its manifest's figures, from what its files say and, where they do not, from its kind.

Sources: the configurations published with SDXL base, refiner and turbo, and with SDXL-Lightning; for v-prediction with zero
terminal SNR, Lin et al. 2023.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from gpu_inference.importing.source import Facts

NATIVE = 1024
SIZES: Tuple[Tuple[int, int], ...] = (
    (1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216), (1344, 768), (768, 1344), (1536, 640), (640, 1536),
)  # fmt: skip
"""Width and height of sizes that SDXL was trained at (Podell et al. 2023, appendix I), the contract's aspect ratios among them."""

TIME_IDS = ["original_height", "original_width", "crop_top", "crop_left", "target_height", "target_width"]
REFINER_TIME_IDS = ["original_height", "original_width", "crop_top", "crop_left", "aesthetic_score"]


class Kind(NamedTuple):
    """A family of distilled models: the steps and the guidance they are made for."""

    word: str
    steps: int
    guidance: float
    guidance_limit: float


KINDS = (
    Kind("lightning", 4, 1.0, 2.0),
    Kind("turbo", 4, 1.0, 2.5),
    Kind("hyper", 8, 1.0, 2.0),
    Kind("hypersd", 8, 1.0, 2.0),
    Kind("lcm", 6, 1.0, 2.0),
    Kind("dmd2", 4, 1.0, 2.0),
)
_STEPS = re.compile(r"(\d{1,2})[ _-]?steps?\b")
_STANDARD_GUIDANCE, _LIMIT = 7.5, 30.0
_RESCALE = 0.7


def kind_of(hints: str) -> Optional[Kind]:
    """The family that names and metadata tell of, its steps those that they name, as in ``lightning_8step``."""
    words = re.split(r"[^a-z0-9]+", hints)
    for kind in KINDS:
        if kind.word in words or f"sdxl{kind.word}" in words:
            steps = _STEPS.search(hints)
            return kind._replace(steps=int(steps.group(1))) if steps is not None and int(steps.group(1)) > 0 else kind
    return None


def sizes(native: int, multiple: int) -> List[Tuple[int, int]]:
    """SDXL's sizes, for a model whose square is ``native`` pixels wide; sides are multiples of ``multiple``."""

    def side(value: int) -> int:
        return max(multiple, round(value * native / NATIVE / multiple) * multiple)

    return list(dict.fromkeys((side(width), side(height)) for width, height in SIZES))


def figures(facts: Facts, time_ids: int, multiple: int) -> Dict[str, Any]:
    """The manifest's keys that say how the model is used; ``multiple`` is what its sides must be multiples of, in pixels."""
    kind = kind_of(facts.hints)
    prediction = facts.prediction_type or "epsilon"
    zero = bool(facts.zero_terminal_snr)
    distilled_or_zero = kind is not None or zero
    return {
        "prediction_type": prediction,
        "beta_schedule": facts.beta_schedule,
        "beta_start": facts.beta_start,
        "beta_end": facts.beta_end,
        "train_timesteps": facts.train_timesteps,
        "zero_terminal_snr": zero,
        "timestep_spacing": facts.timestep_spacing or ("trailing" if distilled_or_zero else "leading"),
        "steps_offset": facts.steps_offset if facts.steps_offset is not None else (0 if distilled_or_zero else 1),
        "native_size": facts.native_size,
        "size_buckets": sizes(facts.native_size, multiple),
        "default_steps": kind.steps if kind is not None else None,
        "default_guidance": kind.guidance if kind is not None else _STANDARD_GUIDANCE,
        "guidance_limit": kind.guidance_limit if kind is not None else _LIMIT,
        "max_guidance_rescale": _RESCALE if zero else 0.0,
        "time_ids": REFINER_TIME_IDS if time_ids == len(REFINER_TIME_IDS) else TIME_IDS,
    }
