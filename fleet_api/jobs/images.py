"""What a picture may be asked for, and how a request becomes a payload with every value settled."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any

from pydantic import Field

from fleet_api.kit.fields import Integer, Number, RequestBody, Text

SEED_LIMIT = 2**63

Prompt = Annotated[
    Text, Field(min_length=1, max_length=10_000, description="What the picture shows", examples=["a red circle on a blue background"])
]
NegativePrompt = Annotated[Text, Field(max_length=10_000, description="What to avoid", examples=["blurry"])]
Side = Annotated[Integer, Field(ge=64, le=2048, multiple_of=8, description="Pixels", examples=[1024])]
Steps = Annotated[Integer, Field(ge=1, le=150, description="Denoising steps", examples=[20])]
Guidance = Annotated[
    Number, Field(ge=0, le=30, description="Classifier-free guidance scale; left out, the model's own (7.5 for SDXL)", examples=[7.5])
]
Seed = Annotated[Integer, Field(ge=0, le=SEED_LIMIT - 1, description="Same seed, same picture; random if left out", examples=[42])]
Name = Annotated[Text, Field(min_length=1, max_length=200)]
MAX_COUNT = 16
MAX_LORAS = 8


class LoraUse(RequestBody):
    """One of several LoRAs."""

    name: Name = Field(description="A name of GET /api/vision/loras", examples=["night"])
    strength: Annotated[Number, Field(ge=-4, le=4, examples=[0.8])] = 0.8


class ImageBody(RequestBody):
    """The values of a picture. ``POST /api/fleet/generate`` takes these."""

    prompt: Prompt
    negative_prompt: NegativePrompt = ""
    width: Side = 1024
    height: Side = 1024
    steps: Steps = 20
    guidance_scale: Guidance = 7.5
    seed: Seed | None = None
    model: Name | None = Field(None, description="A name of GET /api/vision/models/available; the default model if left out")
    lora: Name | None = Field(None, description="A name of GET /api/vision/loras")
    lora_strength: Annotated[Number, Field(ge=-4, le=4)] = 0.8
    loras: Annotated[list[LoraUse], Field(max_length=MAX_LORAS)] = Field(
        [], description=f"More LoRAs, up to {MAX_LORAS}, applied together with `lora`", examples=[[]]
    )
    scheduler: Name | None = Field(None, description="A name of GET /api/vision/schedulers", examples=["euler"])
    preview_every: Annotated[Integer, Field(ge=0, le=150)] = Field(
        0,
        description="After so many steps a small picture of how far it is: GET /api/queue/jobs/{job_id}/preview; 0 for none",
        examples=[0],
    )


class FleetGenerateBody(ImageBody):
    """As :class:`ImageBody`, with the documents' default for what to avoid."""

    negative_prompt: NegativePrompt = "blurry, bad quality"


class VisionGenerateBody(ImageBody):
    """A picture, or up to 16 of them with consecutive seeds."""

    priority: Annotated[Integer, Field(ge=-1000, le=1000, description="Higher goes first", examples=[0])] = 0
    target_cluster: Name | None = Field(None, description="Only nodes of this cluster", examples=[None])
    target_node: Name | None = Field(None, description="Only this node", examples=[None])
    count: Annotated[Integer, Field(ge=1, le=MAX_COUNT, description="How many pictures", examples=[1])] = 1


def lora_names(payload: dict[str, Any]) -> tuple[str, ...]:
    """Return the LoRAs that a job wants, in the order of their names."""
    more = payload.get("loras")
    names = {each.get("name") for each in more if isinstance(each, dict)} if isinstance(more, list) else set()
    return tuple(sorted(name for name in {*names, payload.get("lora")} if isinstance(name, str) and name))


def batch_kind(payload: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return what pictures of one model and sampler must have in common to be made together; None where the payload does not tell.

    LoRAs and their strengths, size, steps and whether guided: guidance doubles the work. Where the model's own guidance is taken that is
    not known here, and a kind of its own.
    """
    size = tuple(payload.get(name) for name in ("width", "height", "steps"))
    if not all(isinstance(value, int) for value in size):
        return None
    named = [payload.get(name) for name in ("lora", "lora_strength", "loras")]
    guidance = payload.get("guidance_scale")
    guided = guidance > 1 if isinstance(guidance, (int, float)) else None
    return (*size, payload.get("steps_default") is True, guided, json.dumps(named, sort_keys=True) if any(named) else "")


def payload_of(body: ImageBody, model: str, scheduler: str, offset: int = 0) -> dict[str, Any]:
    """Return what the node is told. ``offset`` is added to the seed.

    Guidance that the caller did not name is left out: every model has its own, 7.5 for SDXL and 2 for the built-in one.
    """
    seed = body.seed if body.seed is not None else secrets.randbelow(2**53)  # 2^53: exact in every JSON reader
    named: dict[str, Any] = {"guidance_scale": body.guidance_scale} if "guidance_scale" in body.model_fields_set else {}
    if body.lora is not None:
        named |= {"lora": body.lora, "lora_strength": body.lora_strength}
    if body.loras:
        named["loras"] = [{"name": each.name, "strength": each.strength} for each in body.loras]
    if "steps" not in body.model_fields_set:
        named["steps_default"] = True  # a model that was made for another number takes that
    if body.preview_every:
        named |= {"preview_every": body.preview_every}
    return {
        **named,
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt,
        "width": body.width,
        "height": body.height,
        "steps": body.steps,
        "seed": (seed + offset) % SEED_LIMIT,
        "model": model,
        "scheduler": scheduler,
    }
