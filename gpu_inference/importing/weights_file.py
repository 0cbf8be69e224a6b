"""Writes a network's weights to one file, each once, as they are asked for; graphs refer to it and the map tells what lies where."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Dict, List, Optional, Sequence, Type

import numpy as np
import numpy.typing as npt

from gpu_inference.importing.source import CannotImport, Source

Array = npt.NDArray[Any]
_LARGE, _PAGE, _WORD = 1 << 20, 4096, 64
"""Large weights begin at a page, so that a runtime can map them; the others at a line of the cache."""

_LARGEST_HALF = 65504.0


class Stored:
    """Where a weight lies: ``shape`` as it is stored, so turned round where ``transposed``."""

    def __init__(self, offset: int, value: Array, transposed: bool) -> None:
        self.offset, self.nbytes, self.transposed = offset, value.nbytes, transposed
        self.dtype: str = value.dtype.name
        self.shape: List[int] = list(value.shape)

    def entry(self, name: str) -> Dict[str, Any]:
        """The weight in the map."""
        return {"initializer": name, "offset": self.offset, "dtype": self.dtype, "shape": self.shape, "transposed": self.transposed}


class WeightsFile:
    """One network's weights. A context; ``sha256`` is there once it has ended."""

    def __init__(self, source: Source, network: str, path: Path, storage: str) -> None:
        """``storage`` is ``float16`` or ``float32``."""
        self._source, self._network, self.path = source, network, path
        self._storage = np.dtype(storage)
        self._stream: Optional[BinaryIO] = None
        self._digest = hashlib.sha256()
        self._end = 0
        self._stored: Dict[str, Stored] = {}
        self._small: Dict[str, Optional[Array]] = {}
        self.sha256 = ""

    def __enter__(self) -> WeightsFile:
        self._stream = self.path.open("wb")
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self.sha256 = self._digest.hexdigest()

    def matrix(self, module: str, linear: bool) -> Stored:
        """The weight of a module, written at the first call; that of a linear layer lies transposed, ``[in, out]``.

        Raises :class:`CannotImport` where it is missing, of another shape, or holds what is no number.
        """
        name = module + ".weight"
        if name not in self._stored:
            value = self._source.tensor(self._network, name)
            if linear and value.ndim == 4 and value.shape[2:] == (1, 1):
                value = value.reshape(value.shape[:2])
            if value.ndim != (2 if linear else 4):
                raise CannotImport(f"The tensor '{name}' of the {self._network} has the shape {list(value.shape)}, which is not SDXL's.")
            value = self._fit(name, value)
            self._stored[name] = self._write(np.ascontiguousarray(value.T) if linear else value, linear)
        return self._stored[name]

    def table(self, module: str) -> Stored:
        """A table of embeddings ``[rows, width]``."""
        name = module + ".weight"
        if name not in self._stored:
            self._stored[name] = self._write(self._fit(name, self._source.tensor(self._network, name)), False)
        return self._stored[name]

    def vector(self, name: str, needed: bool = True) -> Optional[Array]:
        """A bias or a factor, float32; kept in memory, as it is small, and written too. None for one that is not there and not needed."""
        if name not in self._small:
            value = self._source.tensor(self._network, name) if needed else self._source.optional(self._network, name)
            if value is not None:
                value = self._fit(name, value).astype(np.float32)
                if value.ndim != 1:
                    raise CannotImport(
                        f"The tensor '{name}' of the {self._network} has the shape {list(value.shape)}, which is not SDXL's."
                    )
                self._stored[name] = self._write(value, False)
            self._small[name] = value
        return self._small[name]

    def _fit(self, name: str, value: Array) -> Array:
        if not np.isfinite(value).all():
            raise CannotImport(f"The tensor '{name}' of the {self._network} holds values that are not numbers.")
        if value.ndim > 1 and value.dtype != self._storage:
            if self._storage == np.float16 and float(np.abs(value).max(initial=0.0)) > _LARGEST_HALF:
                raise CannotImport(f"The tensor '{name}' of the {self._network} does not fit into half precision; import it with fp32.")
            value = value.astype(self._storage)
        return np.ascontiguousarray(value)

    def _write(self, value: Array, transposed: bool) -> Stored:
        if self._stream is None:
            raise RuntimeError("The file of weights is not open.")
        unit = _PAGE if value.nbytes >= _LARGE else _WORD
        gap = -self._end % unit
        for block in (b"\0" * gap, value.tobytes()):
            self._stream.write(block)
            self._digest.update(block)
        stored = Stored(self._end + gap, value, transposed)
        self._end += gap + value.nbytes
        return stored

    def map(self, unread: Sequence[str] = ()) -> str:
        """The map of weights as :class:`gpu_inference.engine.weights.WeightMap` reads it."""
        ending = len(".weight")
        matrices = {name[:-ending]: each.entry(name) for name, each in self._stored.items() if len(each.shape) > 1}
        vectors = {name: each.entry(name) for name, each in self._stored.items() if len(each.shape) == 1}
        said = {"format": 1, "data": self.path.name, "weights": matrices, "vectors": vectors, "unread": list(unread)}
        return json.dumps(said) + "\n"
