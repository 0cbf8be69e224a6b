"""Safetensors files for tests: sound ones, LoRAs for any base, and all kinds of wrong ones."""

from __future__ import annotations

import json
import pickle
import struct
from typing import Any

Tensors = dict[str, tuple[str, list[int], bytes]]


def packed(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a file of a header (an object, or its text) and the bytes that follow."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def safetensors(tensors: Tensors, metadata: dict[str, str] | None = None) -> bytes:
    """Return a sound file."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return packed(header, data)


def lora(base: str = "", rank: int = 2, side: int = 8, seed: int = 0, **metadata: str) -> bytes:
    """Return a LoRA named as the engines read them."""
    fill = bytes([seed % 251]) * (2 * rank * side)
    pair: Tensors = {
        "unet.conv.lora_A.weight": ("F16", [rank, side], fill),
        "unet.conv.lora_B.weight": ("F16", [side, rank], fill),
    }
    return safetensors(pair, {**({"base_model": base} if base else {}), **metadata})


def one(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8), name: str = "weight", data: bytes = b"\0" * 8) -> bytes:
    """Return a file of one tensor, as wrong as it is wanted."""
    return packed({name: {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}, data)


WEIGHT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE: dict[str, tuple[bytes, str]] = {
    "short": (b"abc", "ends after 3 bytes"),
    "truncated": (one()[:-4], "ends early"),
    "truncated header": (packed({}, length=500), "500 bytes, and the whole file has 10"),
    "lying length": (packed({"a": 1}, length=2**63), "9,223,372,036,854,775,808 bytes"),
    "header of nothing": (struct.pack("<Q", 0) + b"{}", "0 bytes, too few"),
    "100 GB claimed": (one(shape=[25_000_000_000], offsets=[0, 100_000_000_000]), "100,000,000,000 bytes, and 8 are there"),
    "shape that lies": (one(shape=[1_000_000_000]), "its shape wants 4,000,000,000"),
    "duplicate keys": (
        packed(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8),
        "'w' twice",
    ),
    "duplicate inside": (packed(b'{"w":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8), "'dtype' twice"),
    "pickle": (pickle.dumps({"weight": b"\0" * 100}, protocol=4), "Python pickle, which can run code"),
    "old pickle": (pickle.dumps({"weight": "x" * 100}, protocol=0), "header"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "zip archive"),
    "gguf": (b"GGUF" + b"\x03\0\0\0" * 20, "GGUF"),
    "script": (b"#!/bin/sh\necho hello to everybody\n" * 4, "script"),
    "path": (one(name="../../etc/passwd"), "'../../etc/passwd' is a path"),
    "absolute path": (one(name="/etc/passwd"), "is a path"),
    "windows path": (one(name="C:/windows"), "is a path"),
    "backslashes": (one(name="a\\..\\b"), "is a path"),
    "control characters": (one(name="a\x1b[2Jb"), "control characters"),
    "no name": (one(name=""), "is empty"),
    "long name": (one(name="x" * 501), "too long"),
    "unknown type": (one(dtype="PICKLE"), "has the type 'PICKLE'"),
    "type that is none": (packed({"w": {"dtype": {}, "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8), "has the type"),
    "negative side": (one(shape=[-2]), "list of at most 16 counts"),
    "side that is true": (one(shape=[True], offsets=[0, 4], data=b"\0" * 4), "counts"),
    "offsets turned": (one(offsets=[8, 0]), "its shape wants"),
    "negative offsets": (one(offsets=[-8, 0]), "two counts"),
    "three offsets": (one(offsets=[0, 8, 8]), "two counts"),
    "gap": (one(offsets=[8, 16], data=b"\0" * 16), "leaves a gap"),
    "overlap": (
        packed({n: {"dtype": "F32", "shape": [2], "data_offsets": [at, at + 8]} for n, at in (("a", 0), ("b", 4))}, b"\0" * 12),
        "overlaps",
    ),
    "more at the end": (one(data=b"\0" * 8 + b"evil"), "4 bytes follow"),
    "no tensors": (packed({}, b""), "holds no tensor"),
    "a list": (packed([1, 2]), "header"),
    "deep": (packed(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "not JSON"),
    "not UTF-8": (packed(b'{"\xff\xfe":1}'), "not JSON in UTF-8"),
    "NaN": (packed(b'{"w":NaN}'), "NaN"),
    "huge number": (packed(b'{"w":' + b"9" * 10_000 + b"}"), "not JSON"),
    "metadata that is no text": (packed({"__metadata__": {"a": 1}, "w": WEIGHT}, b"\0" * 8), "text"),
    "entry that is a number": (packed({"w": 7}), "dtype, shape and data_offsets"),
    "entry with more": (packed({"w": {**WEIGHT, "code": "x"}}, b"\0" * 8), "nothing else"),
}  # fmt: skip
"""What is refused, and a few words of the sentence."""
