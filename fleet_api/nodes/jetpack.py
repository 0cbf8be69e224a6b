"""A Jetson's releases, from its node's facts."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from fleet_api.nodes.live import LiveNode


class JetPackView(BaseModel):
    """Releases; null where the node is no Jetson or has not been looked at."""

    jetpack_version: str | None = Field(examples=["5.1.2"])
    l4t_version: str | None = Field(examples=["35.4.1"])
    cuda_version: str | None = Field(examples=["11.4"])
    cudnn_version: str | None = Field(examples=["8.6.0"])

    @classmethod
    def of(cls, node: LiveNode) -> JetPackView:
        """Return what the node's facts say."""
        return cls(**{name: _text(node.row.facts.get(name)) for name in cls.model_fields})


def _text(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None
