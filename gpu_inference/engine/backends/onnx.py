"""ONNX Runtime on the CPU.

Both guidance branches go through the UNet as one batch. What stays the same for a picture is bound once; a step binds
only its latents. Encodings of the last prompts are kept, as callers often change nothing but the seed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from gpu_inference.engine.backends.base import guide
from gpu_inference.engine.conditioning import Conditioning, Ids
from gpu_inference.engine.errors import BackendError, EngineError, LoraError, OutOfMemory
from gpu_inference.engine.loras import Lora
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.weights import changed_graph, load_weight_map

Array = npt.NDArray[Any]
Encoded = Tuple[Array, Array]
Adapted = Optional[Tuple[Path, float]]
PROVIDER = "CPUExecutionProvider"
KEPT_PROMPTS = 16
_MEMORY_WORDS = ("bad_alloc", "failed to allocate memory", "out of memory", "bfcarena")
_SILENT = 3
_UNKNOWN = (Path(), 0.0)


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
        self._folder = folder
        self._manifest = folder.manifest
        self._threads = threads or cores()
        self._adapted: Adapted = None
        self._encoders = [self._session(encoder.file) for encoder in self._manifest.text_encoders]
        self._unet: Any = self._session(self._manifest.unet.file)
        self._decoder = self._session(self._manifest.vae_decoder.file)
        self._kept: OrderedDict[bytes, Encoded] = OrderedDict()
        self._static: Dict[str, Array] = {}
        self._batch = 1
        self._guidance = (1.0, 0.0)
        self._binding: Optional[Any] = None

    def _session(self, name: str, graph: Optional[bytes] = None) -> Any:
        """A session of one of the folder's graphs, or of ``graph`` in its place."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = _SILENT
        # Threads that wait by spinning take the cores from whatever else runs: a step on two busy cores took 52 ms, and 28 ms without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with _own_errors():
            return onnxruntime.InferenceSession(graph or str(self._folder.file(name)), options, providers=[PROVIDER])

    def adapt(self, lora: Optional[Lora], strength: float) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`. The UNet is loaded anew where its weights change."""
        wanted: Adapted = None if lora is None or strength == 0.0 else (lora.file.path, strength)
        if wanted == self._adapted:
            return
        graph = None if wanted is None or lora is None else self._changed(lora, strength)
        # The session before it is freed first: two UNets at once may not fit.
        self._unet = self._binding = None
        self._adapted = _UNKNOWN
        self._unet = self._session(self._manifest.unet.file, graph)
        self._adapted = wanted

    def _changed(self, lora: Lora, strength: float) -> bytes:
        unet = self._manifest.unet
        if unet.weights is None:
            raise LoraError(f"The model '{self._folder.name}' takes no LoRA: it has no map of its weights.")
        known = load_weight_map(self._folder.file(unet.weights))
        return changed_graph(self._folder.file(unet.file), known, lora, strength)

    def prepare(self, conditioning: Conditioning) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        if self._unet is None:
            raise BackendError("The UNet is not loaded, as changing its weights failed.")
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
