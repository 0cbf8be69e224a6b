"""Sessions of ONNX Runtime: on which device, with which options, and its errors as the engine's."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

import numpy as np
import numpy.typing as npt
import onnxruntime

from gpu_inference.engine.backends import gpu_present
from gpu_inference.engine.errors import BackendError, EngineError, OutOfMemory
from gpu_inference.engine.manifest import NetworkPart

Array = npt.NDArray[Any]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_MEMORY_WORDS = ("bad_alloc", "failed to allocate memory", "out of memory", "bfcarena", "cudaerrormemoryallocation")
_SILENT = 3

KEPT_HALF = 256 * 2**20
"""Weights of more bytes than this stay in their file, mapped, and are widened layer by layer as they are used.

A UNet of 650 million weights so took 1.4 GB at its peak, of which the file's pages 1.3, was there after 0.3 s and took 1.5 to 2.5 s a
step of 256 x 256; widened once at load it took 3.6 GB, 4.7 s and 1.7 s.
"""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def provider() -> str:
    """CUDA's where both ONNX Runtime's build and the machine have it, else the CPU's."""
    there = CUDA in onnxruntime.get_available_providers() and gpu_present()
    return CUDA if there else CPU


def classify(error: Exception) -> EngineError:
    """ONNX Runtime's error as one of the engine's, its text cut to one line."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or any(word in text.lower() for word in _MEMORY_WORDS):
        return OutOfMemory("The engine ran out of memory.")
    return BackendError(f"ONNX Runtime failed: {text}")


@contextmanager
def own_errors() -> Iterator[None]:
    """Turns what ONNX Runtime raises into :class:`EngineError`'s kinds."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise classify(error) from error


def is_held(folder: Path, part: NetworkPart) -> bool:
    """Whether a network's weights stay in their file."""
    return part.data is not None and (folder / part.data).stat().st_size > KEPT_HALF


def graph_of(part: NetworkPart, device: str) -> str:
    """The file of the graph that suits a device: a GPU computes in half precision where the network may."""
    return part.half if device == CUDA and part.half else part.file


def open_session(
    folder: Path,
    part: NetworkPart,
    device: str,
    threads: int,
    graph: Optional[bytes] = None,
    weights: Optional[Dict[str, Array]] = None,
) -> Any:
    """A session of a network; ``graph`` is taken in its file's place, ``weights`` (by initialiser) in those of its file of weights.

    Raises :class:`EngineError`'s kinds.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # Threads that wait by spinning take the cores from whatever else runs: a step on two busy cores took 52 ms, and 28 ms without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    held = is_held(folder, part)
    held = held and device == CPU
    level = onnxruntime.GraphOptimizationLevel
    # The last level changes how weights lie, for which it widens and copies them.
    options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if held else level.ORT_ENABLE_ALL
    # An arena keeps for the next run what this one took: good for a small model, too much for a large one's decoder.
    options.enable_cpu_mem_arena = part.data is None or device != CPU
    disabled: List[str] = ["ConstantFolding"] if held else []
    if held:
        # What is widened for one operator goes with it: a buffer that waits for the next tensor of its size lives to the network's end.
        options.enable_mem_reuse = options.enable_mem_pattern = False
    with own_errors():
        if weights:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for value in weights.values()]
            options.add_external_initializers(list(weights), values)
        source: Union[str, bytes] = graph or str(folder / graph_of(part, device))
        return onnxruntime.InferenceSession(source, options, providers=_providers(device), disabled_optimizers=disabled)


def _providers(device: str) -> List[str]:
    return [device] if device == CPU else [device, CPU]
