"""One engine of TensorRT, as its plan is read on a device: inputs and outputs by name, one way from 8.5 to 11.

What a release has is asked of its bindings, never of its number. Without a device a ``Runtime`` ends the process when it reads a
plan, so that :class:`gpu_inference.engine.backends.cudart.Cuda` is made first, which refuses.
"""

from __future__ import annotations

import importlib
import mmap
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.mapped import map_file
from gpu_inference.engine.errors import BackendError, LoraError, OutOfMemory

Array = npt.NDArray[Any]
Shape = Tuple[int, ...]
MODULES = ("tensorrt", "tensorrt_lean")
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT64": np.int64}
TOO_OLD = "TensorRT {} is too old: the worker needs 8.5, which JetPack 5.1 and later have; JetPack 4 and 5.0 are not served."


def bindings() -> Any:
    """The Python bindings. Raises ImportError where there are none, :class:`BackendError` where they are too old."""
    missing: ImportError = ImportError("No module named 'tensorrt'", name="tensorrt")
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            missing = error if name == MODULES[0] else missing
            continue
        if not hasattr(module.IExecutionContext, "execute_async_v3"):
            raise BackendError(TOO_OLD.format(module.__version__))
        return module
    raise missing


class Plan:
    """An engine and its one context, whose memory is :meth:`use_memory`'s."""

    def __init__(self, trt: Any, cuda: Cuda, path: Path, mapped: Optional[mmap.mmap] = None) -> None:
        """``mapped`` is the file where that is mapped already; it is closed here.

        Raises :class:`BackendError` where TensorRT refuses the plan, as that of another release or device.
        """
        self._trt, self._cuda = trt, cuda
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._read(path, mapped)
        if self._engine is None:
            raise BackendError(f"TensorRT {trt.__version__} refuses the engine {path.name}: it was built by another release, or elsewhere.")
        self._context = self._make_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._places: Dict[str, Tuple[int, int]] = {}
        self._shapes: Dict[str, Shape] = {}
        self._applied: Tuple[Shape, ...] = ()
        self._profile = 0
        self._recorded: Dict[Tuple[Shape, ...], int] = {}

    def _read(self, path: Path, mapped: Optional[mmap.mmap]) -> Any:
        """The engine of a file, which is mapped: read into memory it would be there twice where GPU and processor share theirs."""
        try:
            mapped = mapped or map_file(path)
        except OSError as error:
            raise BackendError(f"The engine {path} cannot be read ({error.strerror}).") from error
        if mapped is None:
            return None
        with mapped:
            try:
                return self._runtime.deserialize_cuda_engine(mapped)
            except TypeError:  # bindings that take nothing but bytes
                return self._runtime.deserialize_cuda_engine(mapped[:])

    def _make_context(self) -> Any:
        if hasattr(self._trt, "ExecutionContextAllocationStrategy"):
            context = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        else:  # before 10
            context = self._engine.create_execution_context_without_device_memory()
        if context is None:
            raise OutOfMemory("The device has no memory left for an engine of TensorRT.")
        return context

    def memory_needed(self) -> int:
        """Bytes of the device that it computes in."""
        engine = self._engine
        return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)

    def use_memory(self, pointer: int, size: int) -> None:
        """What it computes in, which all plans share as they never run at once."""
        self._forget()
        if hasattr(self._context, "set_device_memory"):
            self._context.set_device_memory(pointer, size)
        else:
            self._context.device_memory = pointer

    def _dtype(self, name: str) -> Any:
        return _NUMPY[str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]]

    def hold(self, name: str, value: Array) -> None:
        """Takes an input to the device, where it stays. One that the engine does not have is left out."""
        if name in self._inputs:
            value = np.ascontiguousarray(value, dtype=self._dtype(name))
            self._shapes[name] = value.shape
            self._cuda.copy_in(self._place(name, value.nbytes), value)

    def _apply_shapes(self) -> Tuple[Shape, ...]:
        """Tells the context the inputs' shapes, in a profile that takes them all; returns them."""
        missing = [name for name in self._inputs if name not in self._shapes]
        if missing:
            raise BackendError("The engine lacks its inputs {}.".format(", ".join(missing)))
        key = tuple(self._shapes[name] for name in self._inputs)
        if key != self._applied:
            profile = next((number for number in range(self._engine.num_optimization_profiles) if self._takes(number)), None)
            if profile is None:
                said = ", ".join(f"{name} {list(shape)}" for name, shape in zip(self._inputs, key))
                raise BackendError(f"The engine was not built for this size: {said}.")
            if profile != self._profile:
                self._context.set_optimization_profile_async(profile, self._cuda.stream)
                self._cuda.wait()
                self._profile = profile
            for name, shape in zip(self._inputs, key):
                if not self._context.set_input_shape(name, shape):
                    raise BackendError(f"The engine refuses {name} of {list(shape)}.")
            self._applied = key
        return key

    def _takes(self, profile: int) -> bool:
        for name in self._inputs:
            low, _, high = self._engine.get_tensor_profile_shape(name, profile)
            shape = self._shapes[name]
            if len(low) != len(shape) or not all(least <= side <= most for least, side, most in zip(low, shape, high)):
                return False
        return True

    def _place(self, name: str, size: int) -> int:
        """Memory of an input or output; what was recorded with its old one is forgotten."""
        pointer, room = self._places.get(name, (0, 0))
        if room < size:
            self._forget()
            if pointer:
                self._cuda.free(pointer)
            pointer = self._cuda.allocate(size)
            self._places[name] = (pointer, size)
            if not self._context.set_tensor_address(name, pointer):
                raise BackendError(f"TensorRT does not take the memory of {name}.")
        return pointer

    def run(self, inputs: Mapping[str, Array]) -> Dict[str, Array]:
        """The outputs for ``inputs`` and what is held. Raises :class:`BackendError`."""
        for name, value in inputs.items():
            self.hold(name, value)
        key = self._apply_shapes()
        unknown = self._context.infer_shapes()
        if unknown:
            raise BackendError("The engine lacks the shapes of {}.".format(", ".join(unknown)))
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs}
        results = {name: np.empty(shape, dtype=self._dtype(name)) for name, shape in shapes.items()}
        for name, result in results.items():
            self._place(name, result.nbytes)
        self._execute(key)
        for name, result in results.items():
            self._cuda.copy_out(result, self._places[name][0])
        return {name: result.astype(np.float32) for name, result in results.items()}

    def _execute(self, key: Tuple[Shape, ...]) -> None:
        if key in self._recorded:
            self._cuda.launch(self._recorded[key])
            return
        self._enqueue()  # the first run chooses algorithms and may not be recorded
        self._cuda.wait()
        self._cuda.begin_capture()
        try:
            self._enqueue()
        except BackendError:
            self._cuda.forget(self._cuda.end_capture())
            raise
        self._recorded[key] = self._cuda.end_capture()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._cuda.stream):
            raise BackendError("TensorRT failed to run an engine.")

    @property
    def refittable(self) -> bool:
        """Whether weights can be replaced."""
        return bool(self._engine.refittable)

    def check_refit(self, names: Iterable[str]) -> None:
        """Raises :class:`LoraError` where weights of these initialisers cannot be replaced."""
        names = sorted(names)
        known = set(self._trt.Refitter(self._engine, self._logger).get_all_weights()) if names else set()
        lacking = [name for name in names if name not in known]
        if lacking:
            raise LoraError(f"The engine has joined the weight '{lacking[0]:.100}' with others, so that no LoRA can change it.")

    def refit(self, weights: Mapping[str, Array]) -> None:
        """Replaces weights by their initialisers' names. Raises :class:`LoraError` where the engine cannot."""
        refitter = self._trt.Refitter(self._engine, self._logger)
        kept: List[Array] = []
        for name, value in weights.items():
            kept.append(np.ascontiguousarray(value))  # as long as the refitter reads it
            if not refitter.set_named_weights(name, self._trt.Weights(kept[-1])):
                raise LoraError(f"The engine does not take the weight '{name:.100}'.")
        if not refitter.refit_cuda_engine():
            raise LoraError("The engine does not take the changed weights.")

    def _forget(self) -> None:
        for ready in self._recorded.values():
            self._cuda.forget(ready)
        self._recorded.clear()

    def close(self) -> None:
        """Frees what it holds of the device."""
        self._forget()
        for pointer, _ in self._places.values():
            self._cuda.free(pointer)
        self._places.clear()
        self._context = self._engine = self._runtime = None
