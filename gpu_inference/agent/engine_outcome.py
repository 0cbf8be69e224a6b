"""What comes of an engine child: its introduction, a picture, or one sentence on why there is none."""

from __future__ import annotations

import signal
from typing import Any, Dict, List, NamedTuple, Optional

from pydantic import BaseModel, ConfigDict, Field

from gpu_inference.protocol import LoraInfo, ModelInfo

_OUT_OF_MEMORY = 70
"""The exit code of a child that ran out of memory."""


class EngineFailure(Exception):
    """An attempt that the engine did not finish: one sentence, its kind, and whether another try may end better."""

    def __init__(self, message: str, kind: str = "engine", retry: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry = retry


class Hello(BaseModel):
    """What a child says of itself once it can work."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    pid: int
    backend: str
    devices: List[str]
    samplers: List[str]
    models: List[ModelInfo]
    loras: List[LoraInfo] = []
    problems: List[str] = []
    batch: int = Field(default=1, ge=1, le=64)


class Output(NamedTuple):
    """A finished picture: the engine's result and the file's bytes."""

    result: Dict[str, Any]
    png: bytes


def death_sentence(code: Optional[int], words: str, by_kernel: bool = False) -> EngineFailure:
    """Why a child ended, from its exit code and the last line it wrote; ``by_kernel`` says that the kernel ended some process meanwhile."""
    if code == _OUT_OF_MEMORY:
        return EngineFailure("The engine ran out of memory.", "out_of_memory")
    if code == -signal.SIGKILL and by_kernel:
        return EngineFailure("The engine was ended by the kernel, as the memory ran out.", "out_of_memory")
    if code == -signal.SIGKILL:
        return EngineFailure("The engine was killed (SIGKILL), as the system does where memory runs out.", "engine_died")
    if code is not None and code < 0:
        return EngineFailure(f"The engine was ended by signal {-code}.", "engine_died")
    return EngineFailure(f"The engine ended with code {code}{': ' + words if words else '.'}", "engine_died")
