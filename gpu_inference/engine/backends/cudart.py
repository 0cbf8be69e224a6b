"""The few calls of the CUDA runtime that TensorRT's backend needs, by ctypes.

A binding package would be another dependency that no release spans Python 3.8 on a Jetson's CUDA 11.4 and CUDA 13 with; the calls
used here have had one signature since CUDA 11.4.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any, Optional, Tuple

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.errors import BackendError, OutOfMemory

Array = npt.NDArray[Any]
_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
_TO_DEVICE, _TO_HOST = 1, 2
_OUT_OF_MEMORY = 2
_MAJOR, _MINOR = 75, 76
"""Attributes of a device: its compute capability."""

_INTEGRATED = 18

_CAPTURE_THREAD = 1


def load_library() -> Any:
    """libcudart. Raises :class:`BackendError` where there is none."""
    found = ctypes.util.find_library("cudart")
    for name in (*([found] if found else []), *_NAMES):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise BackendError("The CUDA runtime (libcudart) is not on this machine.")


class Cuda:
    """One device's memory, one stream, and graphs of what runs in it. Pointers are plain integers."""

    def __init__(self, library: Optional[Any] = None) -> None:
        """Raises :class:`BackendError` where there is no device."""
        self._library = library if library is not None else load_library()
        if not self.devices():
            raise BackendError("There is no CUDA device on this machine.")
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(handle))
        self.stream = int(handle.value or 0)

    def _call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code == _OUT_OF_MEMORY:
            raise OutOfMemory("The device ran out of memory.")
        if code:
            raise BackendError(f"CUDA failed: {name} gave error {code}.")

    def devices(self) -> int:
        """Devices there are; 0 also where the driver is missing."""
        count = ctypes.c_int()
        return count.value if int(self._library.cudaGetDeviceCount(ctypes.byref(count))) == 0 else 0

    def architecture(self) -> str:
        """Of the first device, such as ``sm_87``."""
        return f"sm_{self._attribute(_MAJOR)}{self._attribute(_MINOR)}"

    def shares_memory(self) -> bool:
        """Whether the first device has no memory of its own, as that of a Jetson."""
        return bool(self._attribute(_INTEGRATED))

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), ctypes.c_int(0))
        return value.value

    def memory(self) -> Tuple[int, int]:
        """Free and all bytes of the device."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, count: int) -> int:
        """So many bytes of the device. Raises :class:`OutOfMemory`."""
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(1, count)))
        return int(pointer.value or 0)

    def free(self, pointer: int) -> None:
        """Gives memory back."""
        self._call("cudaFree", ctypes.c_void_p(pointer))

    def copy_in(self, pointer: int, value: Array) -> None:
        """From the host to the device, in the stream's order."""
        value = np.ascontiguousarray(value)
        size, kind = ctypes.c_size_t(value.nbytes), ctypes.c_int(_TO_DEVICE)
        self._call("cudaMemcpyAsync", ctypes.c_void_p(pointer), ctypes.c_void_p(value.ctypes.data), size, kind, self._stream())
        self.wait()  # the host's memory is the caller's again

    def copy_out(self, value: Array, pointer: int) -> None:
        """From the device into ``value``, which is contiguous; waits for the stream."""
        size, kind = ctypes.c_size_t(value.nbytes), ctypes.c_int(_TO_HOST)
        self._call("cudaMemcpyAsync", ctypes.c_void_p(value.ctypes.data), ctypes.c_void_p(pointer), size, kind, self._stream())
        self.wait()

    def wait(self) -> None:
        """Until the stream is empty."""
        self._call("cudaStreamSynchronize", self._stream())

    def begin_capture(self) -> None:
        """What is put into the stream from now on is recorded, not run."""
        self._call("cudaStreamBeginCapture", self._stream(), ctypes.c_int(_CAPTURE_THREAD))

    def end_capture(self) -> int:
        """What was recorded, ready to be launched."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamEndCapture", self._stream(), ctypes.byref(graph))
        try:
            self._call("cudaGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cudaGraphDestroy", graph)
        return int(ready.value or 0)

    def launch(self, ready: int) -> None:
        """Runs what was recorded."""
        self._call("cudaGraphLaunch", ctypes.c_void_p(ready), self._stream())

    def forget(self, ready: int) -> None:
        """Frees what was recorded."""
        self._call("cudaGraphExecDestroy", ctypes.c_void_p(ready))

    def _stream(self) -> Any:
        return ctypes.c_void_p(self.stream)

    def close(self) -> None:
        """Frees the stream."""
        self._call("cudaStreamDestroy", self._stream())
