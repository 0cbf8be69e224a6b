"""Reads safetensors files: eight bytes of length, a header of JSON, the tensors' bytes.

The format is that of huggingface.co/docs/safetensors. Nothing in it is executed; every figure of the header is checked
before it is used.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MAX_HEADER = 16 * 1024 * 1024
_LENGTH = struct.Struct("<Q")
FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
"""Types of LoRAs, and their bytes."""

ALL = dict(FLOATS, F8_E4M3=1, F8_E5M2=1, F64=8, I64=8, I32=4, I16=2, I8=1, U8=1, BOOL=1)
"""Types that checkpoints hold; whole numbers are skipped, not read."""


class SafetensorsError(ValueError):
    """The file is no sound safetensors file, or holds a type that is not read here."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: its type, such as ``BF16``, and the bytes ``begin`` to ``end`` of the file."""

    dtype: str
    shape: Tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Safetensors:
    """The header of a file; tensors are read when they are asked for."""

    path: Path
    metadata: Dict[str, str]
    tensors: Dict[str, Tensor]
    stamp: Tuple[int, int, int] = (0, 0, 0)
    """Inode, size and time of change of the file, by which it is told from another one of its name."""

    def read(self, name: str) -> Array:
        """A tensor as float32. Raises as :meth:`read_exact`."""
        return self.read_exact(name).astype(np.float32, copy=False)

    def read_exact(self, name: str) -> Array:
        """A tensor without loss: float16 where that holds all of its type's numbers, else float32.

        Raises KeyError for a name that is not there, :class:`SafetensorsError` for whole numbers, :class:`OSError`.
        """
        tensor = self.tensors[name]
        with self.path.open("rb") as stream:
            stream.seek(tensor.begin)
            data = stream.read(tensor.end - tensor.begin)
        if len(data) != tensor.end - tensor.begin:
            raise SafetensorsError(f"it ends within '{name:.100}'")
        return _values(name, tensor.dtype, data).reshape(tensor.shape)


def _small_floats() -> Array:
    """What the 256 bytes of ``F8_E4M3`` mean (Micikevicius et al. 2022, table 1), as float16; it has no infinities."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    normal = np.ldexp(1.0 + mantissa / 8.0, exponent - 7)
    value = np.where(exponent == 0, np.ldexp(mantissa / 8.0, -6), normal)
    value = np.where((code & 127) == 127, np.nan, value)
    return np.where(code < 128, value, -value).astype(np.float16)


_E4M3 = _small_floats()


def _values(name: str, dtype: str, data: bytes) -> Array:
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E4M3":
        return np.asarray(_E4M3[np.frombuffer(data, np.uint8)])
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (np.frombuffer(data, np.uint8).astype(np.uint16) << 8).view(np.float16)
    if dtype == "F64":
        return np.frombuffer(data, "<f8").astype(np.float32)
    if dtype not in FLOATS:
        raise SafetensorsError(f"'{name:.100}' is of the type {dtype}, which holds no fractions")
    return np.frombuffer(data, "<f4" if dtype == "F32" else "<f2")


def _tensor(name: str, entry: Any, start: int, size: int, types: Mapping[str, int]) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise SafetensorsError(f"the entry of '{name:.100}' is incomplete") from error
    if not isinstance(dtype, str) or dtype not in types:
        raise SafetensorsError(f"'{name:.100}' is of the type {dtype!s:.20}, and those read are: {', '.join(types)}")
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise SafetensorsError(f"the entry of '{name:.100}' holds something else than counts")
    count = 1
    for side in shape:
        count *= side
    if end - begin != count * types[dtype] or start + end > size:
        raise SafetensorsError(f"'{name:.100}' does not fit its place in the file")
    return Tensor(dtype, shape, start + begin, start + end)


def open_safetensors(path: Path, types: Mapping[str, int] = FLOATS) -> Safetensors:
    """Reads and checks the header; a tensor may be of ``types``. Raises :class:`SafetensorsError`, or :class:`OSError`."""
    status = path.stat()
    size = status.st_size
    with path.open("rb") as stream:
        first = stream.read(_LENGTH.size)
        length = _LENGTH.unpack(first)[0] if len(first) == _LENGTH.size else MAX_HEADER + 1
        if length > min(MAX_HEADER, size - _LENGTH.size):
            raise SafetensorsError("it does not begin with a header")
        text = stream.read(length)
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SafetensorsError("its header is not JSON") from error
    if not isinstance(header, dict):
        raise SafetensorsError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise SafetensorsError("its metadata is not text")
    start = _LENGTH.size + length
    tensors = {name: _tensor(name, entry, start, size, types) for name, entry in header.items()}
    return Safetensors(path, metadata, tensors, (status.st_ino, size, status.st_mtime_ns))
