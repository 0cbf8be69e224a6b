"""What can go wrong in an engine. Every message is one sentence that may be shown to the caller."""

from __future__ import annotations


class EngineError(Exception):
    """Base of the engine's errors. ``kind`` names the family, ``retry`` says whether another try may end better."""

    kind = "engine"
    retry = True


class BadRequest(EngineError):
    """A value of the request is missing, of the wrong type or out of range."""

    kind = "bad_payload"
    retry = False


class UnknownModel(EngineError):
    """The request names a model that this engine does not have."""

    kind = "unknown_model"
    retry = False


class ModelError(EngineError):
    """A model folder is incomplete, damaged or contradicts its manifest; another node's copy may be sound."""

    kind = "model"


class UnknownLora(EngineError):
    """The request names a LoRA that this engine does not have."""

    kind = "unknown_lora"
    retry = False


class LoraError(EngineError):
    """A LoRA cannot be read or applied here; another node may be able to."""

    kind = "lora"


class UnfitLora(LoraError):
    """A LoRA does not fit its model, or holds what is no number: it is so on every node."""

    retry = False


class BackendError(EngineError):
    """The runtime under a backend refused or failed."""

    kind = "backend"


class NotBuilt(BackendError):
    """A model's engines of TensorRT were not built here, or cannot be; the node is sound, and another one may have them."""

    kind = "not_built"


class OutOfMemory(EngineError):
    """The device or the host had no memory left for the request."""

    kind = "out_of_memory"


class NoRoom(EngineError):
    """The model does not fit into the memory there is; the engine lives on, and another node may have more."""

    kind = "no_room"


class Cancelled(EngineError):
    """The work was cancelled between two steps."""

    kind = "cancelled"
    retry = False


class Unexpected(EngineError):
    """The engine has a fault, or something under it."""


def said(problem: Exception) -> EngineError:
    """Any exception as one of these."""
    if isinstance(problem, EngineError):
        return problem
    if isinstance(problem, MemoryError):
        return OutOfMemory("The engine ran out of memory.")
    return Unexpected("The engine failed with {}: {}".format(type(problem).__name__, " ".join(str(problem).split())[:300]))
