"""Backends by name. Each is imported only when it is asked for, so that its runtime need not be installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Callable, Dict, List, cast

from gpu_inference.engine.backends.base import Backend
from gpu_inference.engine.batch import MOST_PICTURES
from gpu_inference.engine.errors import BackendError
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.gpus import cards

BACKENDS: Dict[str, str] = {
    "onnx": "gpu_inference.engine.backends.onnx:OnnxBackend",
    "torch": "gpu_inference.engine.backends.torch:TorchBackend",
    "tensorrt": "gpu_inference.engine.backends.tensorrt:TensorRTBackend",
}
PACKAGES = {"onnx": "onnxruntime", "torch": "torch", "tensorrt": "tensorrt"}
DEFAULT_BACKEND = "auto"
GPU_NODES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu/igpu0/ctrl")
"""One of them is there where the kernel has a GPU of NVIDIA."""


NO_CUDA = (
    "This machine has a GPU, and PyTorch does not find it; see whether 'nvidia-smi' works there, and whether its driver was changed since"
    " the last start. On the processor models are computed by FLEET_AGENT_BACKEND=onnx."
)


def gpu_present() -> bool:
    """Whether this machine has a GPU of NVIDIA that a process here can reach."""
    return any(os.path.exists(node) for node in GPU_NODES)


def installed() -> List[str]:
    """The backends whose runtimes are installed."""
    return [name for name, package in PACKAGES.items() if importlib.util.find_spec(package) is not None]


def torch_for_cuda() -> bool:
    """Whether torch is installed, in a build that has a GPU in mind."""
    found = importlib.util.find_spec("torch")
    return any(Path(place, "lib", "libtorch_cuda.so").exists() for place in (found and found.submodule_search_locations) or ())


def usual_backend() -> str:
    """What ``auto`` is here for a model without engines of TensorRT."""
    return "torch" if gpu_present() and "torch" in installed() else "onnx"


def most_unloaded(name: str) -> int:
    """How many pictures at once any model can make on the backend ``name``: where it may be TensorRT, as many as its engines are for."""
    if "tensorrt" not in installed() or not (name == "tensorrt" or (name == DEFAULT_BACKEND and gpu_present())):
        return MOST_PICTURES
    from gpu_inference.building.plans import default_store

    return min(MOST_PICTURES, default_store().pictures)


def best_backend(folder: ModelFolder) -> str:
    """The backend to take for a model here: TensorRT where its engines were built, torch where there is a GPU, else ONNX Runtime.

    Raises :class:`gpu_inference.engine.errors.NotBuilt` and other :class:`BackendError`s where only TensorRT could use the GPU and
    cannot, or torch should and does not find it: on the CPU beside a GPU an imported model's step takes longer than it may, and the job
    would fail without the cause.
    """
    if folder.manifest.networks is None:
        return "onnx"
    if not gpu_present():
        if torch_for_cuda() and cards():
            raise BackendError(NO_CUDA)
        return "onnx"
    if "tensorrt" in installed():
        from gpu_inference.building.ready import why_not_ready

        lacking = why_not_ready(folder)
        if lacking is None:
            return "tensorrt"
        if not on_gpu(usual_backend()):
            raise lacking
    if usual_backend() == "torch" and not on_gpu("torch"):
        raise BackendError(NO_CUDA)
    return usual_backend()


def resolve(name: str, folder: ModelFolder) -> str:
    """The backend that ``name`` is for ``folder``: itself, or with ``auto`` the best. Raises as :func:`best_backend`."""
    return best_backend(folder) if name == DEFAULT_BACKEND else name


def on_gpu(name: str) -> bool:
    """Whether the backend ``name`` computes on a GPU here; also False where its runtime is not installed."""
    if not gpu_present():
        return False
    try:
        if name == "onnx":
            sessions = importlib.import_module("gpu_inference.engine.backends.onnx_sessions")
            return bool(sessions.provider() != sessions.CPU)
        if name == "torch":
            return bool(importlib.import_module("torch").cuda.is_available())
    except Exception:  # not installed, of another CUDA, a library that is missing: each means that it computes nothing there
        return False
    return name == "tensorrt"


def devices() -> List[str]:
    """On what this machine's backends can compute; the GPU comes first. Where torch is there for CUDA, it alone is asked."""
    asked = ["torch"] if torch_for_cuda() else [name for name in installed() if name != "torch"]
    return ["cuda", "cpu"] if any(on_gpu(name) for name in asked) else ["cpu"]


def open_backend(name: str, folder: ModelFolder, threads: int) -> Backend:
    """Loads ``folder`` with the backend ``name`` (``auto``: the best) on ``threads`` threads (0: one a core).

    Raises :class:`BackendError` for a name that is not known or a runtime that is not installed, and whatever the
    backend says of the model.
    """
    name = resolve(name, folder)
    if name not in BACKENDS:
        raise BackendError("The backend '{:.60}' is not known; there are: {}.".format(name, ", ".join((DEFAULT_BACKEND, *BACKENDS))))
    module_name, _, attribute = BACKENDS[name].partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
        return cast("Callable[[ModelFolder, int], Backend]", factory)(folder, threads)
    except ImportError as error:
        raise BackendError(f"The backend '{name}' needs the package {error.name}, which is not installed.") from error
