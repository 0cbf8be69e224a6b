"""Whether a model's engines are there, without loading any."""

from __future__ import annotations

from typing import Optional

from gpu_inference.building.plans import default_store
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.tensorrt_plan import bindings
from gpu_inference.engine.errors import BackendError, EngineError
from gpu_inference.engine.manifest import ModelFolder


def why_not_ready(folder: ModelFolder) -> Optional[EngineError]:
    """What is lacking until every network of a model has an engine for this machine's GPU and TensorRT; None where nothing is."""
    manifest, store = folder.manifest, default_store()
    try:
        release, cuda = bindings().__version__, Cuda()
    except ImportError as error:
        return BackendError(f"TensorRT is installed and cannot be used: {' '.join(str(error).split())[:300]}")
    except EngineError as error:
        return error
    try:
        for part in (*manifest.text_encoders, manifest.unet, manifest.vae_decoder):
            store.find(folder, part, cuda.architecture(), release)
    except EngineError as error:
        return error
    finally:
        cuda.close()
    return None
