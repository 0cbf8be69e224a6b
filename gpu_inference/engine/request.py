"""A job's payload as values the pipeline may trust; every refusal is one sentence with field, value and range."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from gpu_inference.engine.errors import BadRequest
from gpu_inference.engine.noise import MAX_SEED
from gpu_inference.engine.samplers import DEFAULT_SAMPLER, check_sampler

MIN_SIDE, MAX_SIDE, SIDE_MULTIPLE = 64, 2048, 8
MAX_STEPS = 150
MAX_GUIDANCE = 30.0
MAX_PROMPT = 10000
DEFAULT_SIDE = 1024
DEFAULT_STEPS = 20
MAX_LORA_STRENGTH = 4.0
DEFAULT_LORA_STRENGTH = 0.8
MAX_LORAS = 8
_SHOWN_BITS = 128


@dataclass(frozen=True)
class RenderRequest:
    """A picture to make: sizes in pixels, ``seed`` 0 to 2^63 - 1. ``guidance_scale`` None is the model's own.

    ``preview_every`` is after how many steps a small picture is shown, 0 for none.
    ``lora_strength`` counts only where ``lora`` is named; 0 makes the picture that there would be without it. ``more_loras`` are
    names and strengths of others, applied with it.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: Optional[float]
    seed: int
    model: Optional[str]
    sampler: str
    lora: Optional[str] = None
    lora_strength: float = DEFAULT_LORA_STRENGTH
    more_loras: Tuple[Tuple[str, float], ...] = ()
    preview_every: int = 0
    steps_default: bool = False
    """Whether nobody asked for this number of steps, so that a model may take its own."""

    @property
    def loras(self) -> List[Tuple[str, float]]:
        """The names and strengths of all LoRAs."""
        return [*([(self.lora, self.lora_strength)] if self.lora is not None else []), *self.more_loras]


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return "a number of more than 128 bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _whole(payload: Dict[str, Any], name: str, default: int, low: int, high: int, multiple: int = 1) -> int:
    value = payload.get(name)
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high or value % multiple:
        grid = f" in multiples of {multiple}" if multiple > 1 else ""
        raise BadRequest(f"The value of {name} must be a whole number from {low} to {high}{grid}, and {_shown(value)} was given.")
    return value


def _number(payload: Dict[str, Any], name: str, low: float, high: float) -> Optional[float]:
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise BadRequest(f"The value of {name} must be a number from {low:g} to {high:g}, and {_shown(value)} was given.")
    return float(value)


def _text(payload: Dict[str, Any], name: str, high: int) -> str:
    value = payload.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"The value of {name} must be text, and {_shown(value)} was given.")
    if len(value) > high:
        raise BadRequest(f"The value of {name} may have {high} characters, and {len(value)} were given.")
    return value


def _loras(payload: Dict[str, Any]) -> Tuple[Tuple[str, float], ...]:
    value = payload.get("loras")
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_LORAS or not all(isinstance(each, dict) for each in value):
        expected = f"a list of up to {MAX_LORAS} objects of name and strength"
        raise BadRequest(f"The value of loras must be {expected}, and {_shown(value)} was given.")
    found = []
    for each in value:
        name, strength = _text(each, "name", 200), _number(each, "strength", -MAX_LORA_STRENGTH, MAX_LORA_STRENGTH)
        if not name:
            raise BadRequest("Each of the loras needs a name.")
        found.append((name, DEFAULT_LORA_STRENGTH if strength is None else strength))
    return tuple(found)


def parse_request(payload: Dict[str, Any]) -> RenderRequest:
    """The request in ``payload``; fields that are not known are ignored, a missing seed is drawn.

    Raises :class:`BadRequest` at the first field that is wrong.
    """
    strength = _number(payload, "lora_strength", -MAX_LORA_STRENGTH, MAX_LORA_STRENGTH)
    return RenderRequest(
        prompt=_text(payload, "prompt", MAX_PROMPT),
        negative_prompt=_text(payload, "negative_prompt", MAX_PROMPT),
        width=_whole(payload, "width", DEFAULT_SIDE, MIN_SIDE, MAX_SIDE, SIDE_MULTIPLE),
        height=_whole(payload, "height", DEFAULT_SIDE, MIN_SIDE, MAX_SIDE, SIDE_MULTIPLE),
        steps=_whole(payload, "steps", DEFAULT_STEPS, 1, MAX_STEPS),
        guidance_scale=_number(payload, "guidance_scale", 0.0, MAX_GUIDANCE),
        seed=_whole(payload, "seed", secrets.randbelow(MAX_SEED + 1), 0, MAX_SEED),
        model=_text(payload, "model", 200) or None,
        sampler=check_sampler(_text(payload, "scheduler", 60) or DEFAULT_SAMPLER),
        lora=_text(payload, "lora", 200) or None,
        lora_strength=DEFAULT_LORA_STRENGTH if strength is None else strength,
        more_loras=_loras(payload),
        steps_default=payload.get("steps") is None or payload.get("steps_default") is True,
        preview_every=_whole(payload, "preview_every", 0, 0, MAX_STEPS),
    )
