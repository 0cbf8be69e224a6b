"""The sizes of SDXL's networks. A model's manifest keeps them, so that graphs can be made again from its weights."""

from __future__ import annotations

from typing import List, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class UNetConfig(_Config):
    """``transformers`` counts the transformer layers of each block, from the finest to the coarsest; 0 is a block without attention."""

    in_channels: int = Field(default=4, ge=1, le=64)
    out_channels: int = Field(default=4, ge=1, le=64)
    widths: List[int] = Field(min_length=1, max_length=8)
    layers: int = Field(default=2, ge=1, le=8)
    transformers: List[int]
    middle_transformers: int = Field(ge=0, le=64)
    heads: List[int]
    groups: int = Field(default=32, ge=1)
    context_width: int = Field(ge=1)
    time_id_width: int = Field(default=256, ge=2)
    time_ids: int = Field(default=6, ge=1, le=16)
    pooled_width: int = Field(ge=1)

    def depth(self, block: int) -> int:
        """Transformer layers of a block."""
        return self.transformers[block]


class TextEncoderConfig(_Config):
    """``projected`` says whether it gives a pooled text, by a projection of the token at the prompt's end."""

    vocabulary: int = Field(ge=3, le=10_000_000)
    length: int = Field(default=77, ge=3, le=4096)
    width: int = Field(ge=1, le=65_536)
    layers: int = Field(ge=2, le=128)
    heads: int = Field(ge=1)
    activation: Literal["gelu", "quick_gelu"]
    projected: bool = False


class DecoderConfig(_Config):
    """The decoder of the VAE; ``widths`` from the finest to the coarsest."""

    latent_channels: int = Field(default=4, ge=1, le=64)
    widths: List[int] = Field(min_length=1, max_length=8)
    layers: int = Field(default=2, ge=1, le=8)
    groups: int = Field(default=32, ge=1)
    post_quant: bool = True


class NetworkConfigs(_Config):
    """The networks of a model."""

    text_encoders: List[TextEncoderConfig] = Field(min_length=1, max_length=2)
    unet: UNetConfig
    vae_decoder: DecoderConfig
