"""Backends by name. Each is imported only when it is asked for, so that its runtime need not be installed."""

from __future__ import annotations

import importlib
from typing import Callable, Dict, cast

from gpu_inference.engine.backends.base import Backend
from gpu_inference.engine.errors import BackendError
from gpu_inference.engine.manifest import ModelFolder

BACKENDS: Dict[str, str] = {
    "onnx": "gpu_inference.engine.backends.onnx:OnnxBackend",
    "torch": "gpu_inference.engine.backends.torch:TorchBackend",
}
DEFAULT_BACKEND = "onnx"


def open_backend(name: str, folder: ModelFolder, threads: int) -> Backend:
    """Loads ``folder`` with the backend ``name`` on ``threads`` threads (0: one a core).

    Raises :class:`BackendError` for a name that is not known or a runtime that is not installed, and whatever the
    backend says of the model.
    """
    if name not in BACKENDS:
        raise BackendError("The backend '{:.60}' is not known; there are: {}.".format(name, ", ".join(BACKENDS)))
    module_name, _, attribute = BACKENDS[name].partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise BackendError(f"The backend '{name}' needs the package {error.name}, which is not installed.") from error
    return cast("Callable[[ModelFolder, int], Backend]", factory)(folder, threads)
