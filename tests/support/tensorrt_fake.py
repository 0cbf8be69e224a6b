"""A stand-in of TensorRT and of the CUDA runtime: plans name a graph, which ONNX Runtime computes; the device's memory is the host's.

``release`` decides which methods there are, as the real releases have them. A stand-in refuses what the real one refuses: a plan of
another release, shapes outside all profiles, a run without addresses, a capture that allocates.
"""

from __future__ import annotations

import atexit
import base64
import ctypes
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.support.tensorrt_fake_builder import add_builder

OUT_OF_MEMORY = 2


class FakeCudaRuntime:
    """libcudart's calls as ctypes makes them."""

    def __init__(self, devices: int = 1, room: int = 1 << 40, architecture: tuple[int, int] = (8, 7)) -> None:
        self.count, self.room, self.architecture = devices, room, architecture
        self.blocks: dict[int, Any] = {}
        self.used = 0
        self.capturing: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launched = 0
        self.shared = False
        self.given: list[str] = []
        """The types of what engines were read from; ``bytes_alone`` has the bindings refuse others."""
        self.bytes_alone = False

    def submit(self, work: Callable[[], None]) -> None:
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            work()

    def cudaGetDeviceCount(self, place: Any) -> int:  # noqa: N802
        place._obj.value = self.count
        return 0 if self.count else 100

    def cudaDeviceGetAttribute(self, place: Any, attribute: Any, _device: Any) -> int:  # noqa: N802
        place._obj.value = {75: self.architecture[0], 76: self.architecture[1], 18: int(self.shared)}[attribute.value]
        return 0

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value, total._obj.value = self.room - self.used, self.room
        return 0

    def cudaMalloc(self, place: Any, size: Any) -> int:  # noqa: N802
        if self.capturing is not None:
            return 900
        if self.used + size.value > self.room:
            return OUT_OF_MEMORY
        block = ctypes.create_string_buffer(size.value)
        place._obj.value = ctypes.addressof(block)
        self.blocks[ctypes.addressof(block)] = block
        self.used += size.value
        return 0

    def cudaFree(self, pointer: Any) -> int:  # noqa: N802
        self.used -= len(self.blocks.pop(pointer.value))
        return 0

    def cudaMemcpyAsync(self, target: Any, source: Any, size: Any, _kind: Any, _stream: Any) -> int:  # noqa: N802
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    def cudaStreamCreate(self, place: Any) -> int:  # noqa: N802
        place._obj.value = 1
        return 0

    def cudaStreamSynchronize(self, _stream: Any) -> int:  # noqa: N802
        return 900 if self.capturing is not None else 0

    def cudaStreamDestroy(self, _stream: Any) -> int:  # noqa: N802
        return 0

    def cudaStreamBeginCapture(self, _stream: Any, _mode: Any) -> int:  # noqa: N802
        self.capturing = []
        return 0

    def cudaStreamEndCapture(self, _stream: Any, graph: Any) -> int:  # noqa: N802
        number = len(self.graphs) + 1
        self.graphs[number], self.capturing = self.capturing or [], None
        graph._obj.value = number
        return 0

    def cudaGraphInstantiateWithFlags(self, ready: Any, graph: Any, _flags: Any) -> int:  # noqa: N802
        ready._obj.value = graph.value
        return 0

    def cudaGraphDestroy(self, _graph: Any) -> int:  # noqa: N802
        return 0

    def cudaGraphExecDestroy(self, _ready: Any) -> int:  # noqa: N802
        return 0

    def cudaGraphLaunch(self, ready: Any, _stream: Any) -> int:  # noqa: N802
        self.launched += 1
        for work in self.graphs[ready.value]:
            work()
        return 0


def fake_tensorrt(release: str, device: FakeCudaRuntime) -> Any:
    """The module ``tensorrt`` of a release: ``8.5.2``, ``10.16.1`` or ``11.4.0``."""
    major = int(release.split(".")[0])
    trt = SimpleNamespace(__version__=release)
    trt.Logger = type("Logger", (), {"ERROR": 1, "WARNING": 2, "__init__": lambda self, level: None})
    trt.TensorIOMode = SimpleNamespace(INPUT="TensorIOMode.INPUT", OUTPUT="TensorIOMode.OUTPUT")
    trt.Weights = lambda value: value
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE=0)
    trt.BuilderFlag = SimpleNamespace(REFIT=3, **({"FP16": 0, "INT8": 1} if major < 11 else {}))
    flags = {"EXPLICIT_BATCH": 0} if major < 11 else {}
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(**flags, **({"STRONGLY_TYPED": 1} if major >= 10 else {}))
    if major >= 10:
        trt.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED=2)
        trt.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
    trt.IExecutionContext = context_class(major, device)
    trt.ICudaEngine = engine_class(major, trt)
    trt.Runtime = runtime_class(release, trt, device)
    trt.Refitter = refitter_class()
    if major < 11:
        trt.IInt8EntropyCalibrator2 = type("IInt8EntropyCalibrator2", (), {"__init__": lambda self: None})
    add_builder(trt, major, device)
    return trt


def _laid_out(said: dict[str, Any]) -> Path:
    if not said["files"]:
        return Path(said["graph"])
    folder = Path(tempfile.mkdtemp(prefix="fleet-fused-"))
    atexit.register(shutil.rmtree, folder, True)
    for name, text in said["files"].items():
        (folder / name).write_bytes(base64.b64decode(text))
    return folder / Path(said["graph"]).name


def runtime_class(release: str, trt: Any, device: FakeCudaRuntime) -> type:
    class Runtime:
        def __init__(self, _logger: Any) -> None:
            assert device.count, "a Runtime without a device ends the process when it reads a plan"

        def deserialize_cuda_engine(self, data: Any) -> Any:
            if device.bytes_alone and not isinstance(data, bytes):
                raise TypeError("deserialize_cuda_engine(): incompatible function arguments")
            device.given.append(type(data).__name__)
            said = json.loads(bytes(data))
            return trt.ICudaEngine(said) if said["release"] == release else None

    return Runtime


def engine_class(major: int, trt: Any) -> type:
    kinds = {1: "FLOAT", 7: "INT64" if major >= 10 else "INT32"}

    class ICudaEngine:
        def __init__(self, said: dict[str, Any]) -> None:
            self.said = said
            self.path = _laid_out(said)
            self._model = onnx.load(str(self.path), load_external_data=False)
            self._io = {each.name: each for each in (*self._model.graph.input, *self._model.graph.output)}
            self.num_io_tensors = len(self._io)
            self.num_optimization_profiles = len(said["profiles"])
            self.refittable = said["refittable"]
            self.weights: dict[str, Any] = {}

        def get_tensor_name(self, index: int) -> str:
            return list(self._io)[index]

        def get_tensor_mode(self, name: str) -> str:
            inputs = [each.name for each in self._model.graph.input]
            return str(trt.TensorIOMode.INPUT if name in inputs else trt.TensorIOMode.OUTPUT)

        def get_tensor_dtype(self, name: str) -> str:
            return "DataType." + kinds[self._io[name].type.tensor_type.elem_type]

        def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
            return [tuple(shape) for shape in self.said["profiles"][profile][name]]

        def create_execution_context(self, strategy: Any = None) -> Any:
            assert strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED
            return trt.IExecutionContext(self)

    if major < 10:
        ICudaEngine.create_execution_context = None  # type: ignore[assignment, method-assign]
    if major < 11:
        ICudaEngine.device_memory_size = 4096  # type: ignore[attr-defined]
    if major >= 10:
        ICudaEngine.device_memory_size_v2 = 4096  # type: ignore[attr-defined]
    if major < 11:
        ICudaEngine.create_execution_context_without_device_memory = lambda self: trt.IExecutionContext(self)  # type: ignore[attr-defined]
    return ICudaEngine


def context_class(major: int, device: FakeCudaRuntime) -> type:
    class IExecutionContext:
        def __init__(self, engine: Any) -> None:
            self.engine = engine
            self._profile = 0
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._places: dict[str, int] = {}
            self.device_memory = 0

        def set_optimization_profile_async(self, profile: int, _stream: int) -> bool:
            self._profile, self._shapes = profile, {}
            return True

        def set_input_shape(self, name: str, shape: Any) -> bool:
            low, _, high = self.engine.get_tensor_profile_shape(name, self._profile)
            if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
                return False
            self._shapes[name] = tuple(shape)
            return True

        def infer_shapes(self) -> list[str]:
            return [each.name for each in self.engine._model.graph.input if each.name not in self._shapes]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if name in self._shapes:
                return self._shapes[name]
            if name == "out_sample":
                return self._shapes["sample"]
            if name == "sample":
                count, _, height, width = self._shapes["latent_sample"]
                return count, 3, height * 8, width * 8
            declared = [side.dim_value for side in self.engine._io[name].type.tensor_type.shape.dim]
            width = declared[-1] or self.engine.said["pooled"]
            return (1, *declared[1:-1], width)

        def set_tensor_address(self, name: str, pointer: int) -> bool:
            assert pointer in device.blocks
            self._places[name] = pointer
            return True

        def execute_async_v3(self, _stream: int) -> bool:
            assert self.device_memory in device.blocks, "no memory to compute in"
            device.submit(self._run)
            return True

        def _run(self) -> None:
            inputs = {each.name for each in self.engine._model.graph.input}
            feed = {name: self._array(name).astype(self._onnx_type(name)) for name in inputs}
            names = [each.name for each in self.engine._model.graph.output]
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            if self.engine.weights:
                values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in self.engine.weights.values()]
                options.add_external_initializers(list(self.engine.weights), values)
            session = onnxruntime.InferenceSession(str(self.engine.path), options, providers=["CPUExecutionProvider"])
            for name, value in zip(names, session.run(names, feed), strict=True):
                self._array(name)[...] = value

        def _onnx_type(self, name: str) -> Any:
            return np.int64 if self.engine._io[name].type.tensor_type.elem_type == onnx.TensorProto.INT64 else np.float32

        def _array(self, name: str) -> Any:
            kind = {"FLOAT": np.float32, "INT32": np.int32, "INT64": np.int64}[self.engine.get_tensor_dtype(name).split(".")[1]]
            shape = self.get_tensor_shape(name)
            count = int(np.prod(shape)) * np.dtype(kind).itemsize
            block = device.blocks[self._places[name]]
            assert len(block) >= count, f"the memory of {name} is too small"
            return np.frombuffer(block, dtype=kind, count=int(np.prod(shape))).reshape(shape)

    if major >= 10:
        IExecutionContext.set_device_memory = lambda self, pointer, _size: setattr(self, "device_memory", pointer)  # type: ignore[attr-defined]
    if major < 8:
        del IExecutionContext.execute_async_v3
    return IExecutionContext


def refitter_class() -> type:
    class Refitter:
        def __init__(self, engine: Any, _logger: Any) -> None:
            assert engine.refittable
            self._engine, self._set = engine, dict[str, Any]()

        def get_all_weights(self) -> list[str]:
            return [tensor.name for tensor in self._engine._model.graph.initializer if tensor.external_data]

        def set_named_weights(self, name: str, weights: Any) -> bool:
            declared = next(tensor for tensor in self._engine._model.graph.initializer if tensor.name == name)
            if list(weights.shape) != list(declared.dims):
                return False
            self._set[name] = np.array(weights)
            return True

        def refit_cuda_engine(self) -> bool:
            self._engine.weights.update(self._set)
            return True

    return Refitter
