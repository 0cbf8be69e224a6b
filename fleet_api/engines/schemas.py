"""How engines of TensorRT are asked for and shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from fleet_api.jobs.images import MAX_LORAS, LoraUse
from fleet_api.kit.fields import RequestBody, Text


class BuildBody(RequestBody):
    """Which model's engines a node is to have."""

    model: Text = Field(min_length=1, max_length=200, description="A model that the node has", examples=["sdxl-base"])
    loras: Annotated[list[LoraUse], Field(max_length=MAX_LORAS + 1)] = Field(
        [],
        description="LoRAs that the node has, as many as a job may name: put into the weights of networks whose engines take none later",
        examples=[[]],
    )


class EngineLora(BaseModel):
    """A LoRA in the weights of an engine that takes none later."""

    sha256: str = Field(description="Of its file")
    strength: float = Field(examples=[0.6])
    name: str | None = Field(None, examples=["ink"], description="Under which the store has this file now")


class EngineView(BaseModel):
    """One network's engine, which nodes of the same GPU and release of TensorRT fetch instead of building it."""

    key: str = Field(examples=["0123456789abcdef0123456789abcdef"])
    model: str = Field(examples=["sdxl-base"], description="Of which it was built; another with the same weights has it too")
    network: str = Field(examples=["unet"])
    architecture: str = Field(examples=["sm_87"])
    tensorrt: str = Field(examples=["10.3.0"])
    precision: str = Field(examples=["fp16"])
    loras: list[EngineLora] = Field([], description="What is in its weights beside the model's own; jobs with other LoRAs do not use it")
    size_bytes: int = Field(examples=[5_135_000_000])
    sha256: str
    node_id: str = Field(examples=["agx0"], description="Which node built it")
    created_at: str


class EngineList(BaseModel):
    """Every engine in the store, by model and network."""

    engines: list[EngineView]
    size_bytes: int
    limit_bytes: int = Field(description="What goes over it, goes: the oldest first")
