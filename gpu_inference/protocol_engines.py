"""The words on engines of TensorRT: ordered by the control plane, built by an agent, kept for nodes of the same kind."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, List

from pydantic import Field

from gpu_inference.message import Message

ENGINE_KEY = "^[0-9a-f]{32}$"


def engine_key(said: Dict[str, Any]) -> str:
    """An engine's key: the first 32 hex digits of the SHA-256 of all that it depends on. The model's name is no part of it."""
    text = json.dumps({name: value for name, value in said.items() if name != "model"}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


class BuildLora(Message):
    """A LoRA of the node, by the name that jobs have for it, and how strongly it is applied."""

    name: str = Field(min_length=1, max_length=200)
    strength: float = Field(ge=-4, le=4)


class BuildOrder(Message):
    """A model whose engines of TensorRT the node is to have: fetched where another node built the same, else built.

    ``loras`` go into the weights of networks whose engines take none later. Only agents that say so are told of any
    (:attr:`gpu_inference.protocol.Capabilities.builds_loras`): others would not see them, and build something else.
    """

    id: str = Field(max_length=64)
    model: str = Field(max_length=200)
    loras: List[BuildLora] = Field(default_factory=list, max_length=16)


class BuildReport(Message):
    """Where an order stands, in networks; ``what`` is the network at hand. ``error`` is one sentence."""

    id: str = Field(max_length=64)
    state: str = Field(default="waiting", max_length=32)
    """``waiting`` (for the job at work), ``fetching``, ``building``, ``giving`` (to the store), ``done`` or ``failed``."""

    what: str = Field(default="", max_length=64)
    done: int = Field(default=0, ge=0, le=1000)
    total: int = Field(default=0, ge=0, le=1000)
    fetched: int = Field(default=0, ge=0, le=1000)
    built: int = Field(default=0, ge=0, le=1000)
    error: str = Field(default="", max_length=500)


class EngineOffer(Message):
    """An engine that the agent built, and all that it depends on: ``key`` is :func:`engine_key` of ``said``."""

    key: str = Field(pattern=ENGINE_KEY)
    said: Dict[str, Any]
    size: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class OfferReply(Message):
    """Whether the store wants the engine's bytes; ``reason`` says why not."""

    wanted: bool = False
    reason: str = ""
