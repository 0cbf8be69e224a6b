"""What every message between an agent and the control plane is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Base of every message: unknown fields are ignored, so that either side may be newer."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), allow_inf_nan=False)
