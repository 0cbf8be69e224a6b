"""How models are shown."""

from __future__ import annotations

from pydantic import BaseModel, Field


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
