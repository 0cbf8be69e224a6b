"""Writes a safetensors file: eight bytes of length, a header of JSON, the tensors' bytes one after the other."""

import json
import struct
from pathlib import Path
from typing import Any, Dict

import numpy as np

DTYPES = {"float16": "F16", "float32": "F32"}


def write_safetensors(path: Path, tensors: Dict[str, np.ndarray], metadata: Dict[str, str]) -> None:
    """Write tensors of fp16 or fp32, in the order of their names, and the metadata, which is text throughout."""
    header: Dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name in sorted(tensors):
        value = tensors[name]
        header[name] = {"dtype": DTYPES[value.dtype.name], "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    body = b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in sorted(tensors))
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
