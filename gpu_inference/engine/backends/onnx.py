"""ONNX Runtime on the CPU.

Both guidance branches go through the UNet as one batch. What stays the same for a picture is bound once; a step binds
only its latents. Encodings of the last prompts are kept, as callers often change nothing but the seed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from gpu_inference.engine.backends.base import guide
from gpu_inference.engine.conditioning import Conditioning, Ids
from gpu_inference.engine.errors import BackendError, EngineError, OutOfMemory
from gpu_inference.engine.manifest import ModelFolder

Array = npt.NDArray[Any]
Encoded = Tuple[Array, Array]
PROVIDER = "CPUExecutionProvider"
KEPT_PROMPTS = 16
_MEMORY_WORDS = ("bad_alloc", "failed to allocate memory", "out of memory", "bfcarena")
_SILENT = 3


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def classify(error: Exception) -> EngineError:
    """ONNX Runtime's error as one of the engine's, its text cut to one line."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or any(word in text.lower() for word in _MEMORY_WORDS):
        return OutOfMemory("The engine ran out of memory.")
    return BackendError(f"ONNX Runtime failed: {text}")


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise classify(error) from error


class OnnxBackend:
    """A model in four ONNX Runtime sessions on the CPU."""

    name = "onnx"
    device = "cpu"

    def __init__(self, folder: ModelFolder, threads: int = 0) -> None:
        """Raises :class:`BackendError` where a graph does not load."""
        self._manifest = folder.manifest
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = _SILENT
        # Threads that wait by spinning take the cores from whatever else runs: a step on two busy cores took 52 ms, and 28 ms without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")

        def session(name: str) -> Any:
            return onnxruntime.InferenceSession(str(folder.file(name)), options, providers=[PROVIDER])

        with _own_errors():
            self._encoders = [session(encoder.file) for encoder in self._manifest.text_encoders]
            self._unet = session(self._manifest.unet.file)
            self._decoder = session(self._manifest.vae_decoder.file)
        self._kept: OrderedDict[bytes, Encoded] = OrderedDict()
        self._static: Dict[str, Array] = {}
        self._batch = 1
        self._guidance = (1.0, 0.0)
        self._binding: Optional[Any] = None

    def prepare(self, conditioning: Conditioning) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        branches = [conditioning.prompt] if conditioning.negative is None else [conditioning.negative, conditioning.prompt]
        with _own_errors():
            encoded = [self._encode(ids) for ids in branches]
            self._batch = len(branches)
            self._guidance = (conditioning.guidance_scale, conditioning.guidance_rescale)
            self._static = {
                "encoder_hidden_states": np.concatenate([hidden for hidden, _ in encoded]),
                "text_embeds": np.concatenate([pooled for _, pooled in encoded]),
                "time_ids": np.repeat(conditioning.time_ids, self._batch, axis=0),
            }
            self._binding = self._unet.io_binding()
            for name, value in self._static.items():
                self._binding.bind_cpu_input(name, value)

    def denoise(self, latents: Array, timestep: float) -> Array:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        if self._binding is None:
            raise BackendError("A step was asked for before anything was prepared.")
        sample = np.ascontiguousarray(np.repeat(latents, self._batch, axis=0), dtype=np.float32)
        moment = np.array([timestep], dtype=np.float32)
        with _own_errors():
            self._binding.bind_cpu_input("sample", sample)
            self._binding.bind_cpu_input("timestep", moment)
            self._binding.bind_output("out_sample")
            self._unet.run_with_iobinding(self._binding)
            prediction = self._binding.copy_outputs_to_cpu()[0]
        if self._batch == 1:
            return np.asarray(prediction)
        return guide(prediction[:1], prediction[1:], *self._guidance)

    def decode(self, latents: Array) -> Array:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        scaled = latents / self._manifest.vae_scaling_factor + self._manifest.vae_shift
        with _own_errors():
            return np.asarray(self._decoder.run(["sample"], {"latent_sample": scaled.astype(np.float32)})[0])

    def close(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        self._binding = None
        self._static = {}
        self._kept.clear()

    def _encode(self, ids: Ids) -> Encoded:
        """Hidden states ``[1, length, widths]`` and the pooled text ``[1, width]`` of one prompt."""
        key = b"".join(row.tobytes() for row in ids)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        hidden: List[Array] = []
        pooled: Optional[Array] = None
        for part, session, row in zip(self._manifest.text_encoders, self._encoders, ids):
            names = [part.hidden_output] + ([part.pooled_output] if part.pooled_output else [])
            outputs = session.run(names, {"input_ids": row})
            hidden.append(outputs[0])
            pooled = outputs[1] if part.pooled_output else pooled
        if pooled is None:
            raise BackendError("No text encoder gave a pooled output.")
        self._kept[key] = (np.concatenate(hidden, axis=-1), pooled)
        if len(self._kept) > KEPT_PROMPTS:
            self._kept.popitem(last=False)
        return self._kept[key]
