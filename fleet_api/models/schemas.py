"""How models are shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from fleet_api.kit.fields import RequestBody, Text


class ModelView(BaseModel):
    """A model and where it is loaded."""

    name: str = Field(examples=["fleet-shapes"])
    type: str = Field(examples=["checkpoint"])
    size: str = Field(examples=["8.1MB"])
    size_bytes: int
    native_size: int
    default: bool
    loaded_on: list[str] = Field(examples=[["agx0"]])


class ModelList(BaseModel):
    """Every model, by name."""

    models: list[ModelView]


class LoraView(BaseModel):
    """A LoRA, the model it changes, and the nodes that have it loaded."""

    name: str = Field(examples=["night"])
    size: str = Field(examples=["230.6kB"])
    size_bytes: int
    base: str = Field(examples=["fleet-shapes"])
    loaded_on: list[str] = Field(examples=[[]])


class LoraList(BaseModel):
    """Every LoRA, by name."""

    loras: list[LoraView]


class LoadedModels(BaseModel):
    """Node ids by loaded model."""

    models: dict[str, list[str]]


class SwitchBody(RequestBody):
    """The model to load."""

    model: Annotated[Text, Field(min_length=1, max_length=200, description="A name of GET /api/vision/models/available")]


class Switched(BaseModel):
    """What becomes of a switch: ``loaded`` (it was there), ``loading`` (it begins now) or ``waiting`` (for the node's job to end)."""

    node_id: str
    model: str
    status: str = Field(examples=["loading"])
