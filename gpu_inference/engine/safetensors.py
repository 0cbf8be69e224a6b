"""Reads safetensors files: eight bytes of length, a header of JSON, the tensors' bytes.

The format is that of huggingface.co/docs/safetensors. Nothing in it is executed; every figure of the header is checked
before it is used.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MAX_HEADER = 16 * 1024 * 1024
_LENGTH = struct.Struct("<Q")
_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}


class SafetensorsError(ValueError):
    """The file is no sound safetensors file, or holds a type that is not read here."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: ``F32``, ``F16`` or ``BF16``, and the bytes ``begin`` to ``end`` of the file."""

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

    def read(self, name: str) -> Array:
        """A tensor as float32. Raises KeyError for a name that is not there, :class:`OSError`."""
        tensor = self.tensors[name]
        with self.path.open("rb") as stream:
            stream.seek(tensor.begin)
            data = stream.read(tensor.end - tensor.begin)
        if tensor.dtype == "BF16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, "<f4" if tensor.dtype == "F32" else "<f2").astype(np.float32)
        return values.reshape(tensor.shape)


def _tensor(name: str, entry: Any, start: int, size: int) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise SafetensorsError(f"the entry of '{name:.100}' is incomplete") from error
    if not isinstance(dtype, str) or dtype not in _WIDTHS:
        raise SafetensorsError(f"'{name:.100}' is of the type {dtype!s:.20}, and those read are: {', '.join(_WIDTHS)}")
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise SafetensorsError(f"the entry of '{name:.100}' holds something else than counts")
    count = 1
    for side in shape:
        count *= side
    if end - begin != count * _WIDTHS[dtype] or start + end > size:
        raise SafetensorsError(f"'{name:.100}' does not fit its place in the file")
    return Tensor(dtype, shape, start + begin, start + end)


def open_safetensors(path: Path) -> Safetensors:
    """Reads and checks the header. Raises :class:`SafetensorsError`, or :class:`OSError`."""
    size = path.stat().st_size
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
    return Safetensors(path, metadata, {name: _tensor(name, entry, start, size) for name, entry in header.items()})
