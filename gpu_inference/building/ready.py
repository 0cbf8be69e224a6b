"""Whether a model's engines are there, without loading any."""

from __future__ import annotations

from gpu_inference.building.plans import default_store
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.tensorrt_plan import bindings
from gpu_inference.engine.errors import EngineError
from gpu_inference.engine.manifest import ModelFolder


def ready(folder: ModelFolder) -> bool:
    """Whether every network of a model has an engine for this machine's GPU and TensorRT."""
    manifest, store = folder.manifest, default_store()
    try:
        release, cuda = bindings().__version__, Cuda()
    except (EngineError, ImportError):
        return False
    try:
        for part in (*manifest.text_encoders, manifest.unet, manifest.vae_decoder):
            store.find(folder, part, cuda.architecture(), release)
    except EngineError:
        return False
    finally:
        cuda.close()
    return True
