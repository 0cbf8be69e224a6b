"""Writes safetensors files of any floating type, by the types' own definitions (ml_dtypes)."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np

TYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}


def write_any(path: Path, tensors: dict[str, np.ndarray], dtype: str, metadata: dict[str, str]) -> Path:
    """Writes ``tensors``, each converted to ``dtype``."""
    header: dict[str, object] = {"__metadata__": metadata}
    bodies, offset = [], 0
    for name, value in sorted(tensors.items()):
        body = np.ascontiguousarray(value).astype(TYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [offset, offset + len(body)]}
        bodies.append(body)
        offset += len(body)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(bodies))
    return path
