from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_inference.builtin.training.safetensors import write_safetensors
from gpu_inference.engine.safetensors import ALL, SafetensorsError, open_safetensors
from tests.support.safetensors_files import TYPES


def packed(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {"b": rng.standard_normal((3, 4)).astype(np.float32), "a": rng.standard_normal((2, 1, 5)).astype(np.float16)}
    write_safetensors(tmp_path / "x", tensors, {"name": "ü"})
    read = open_safetensors(tmp_path / "x")
    assert read.metadata == {"name": "ü"}
    assert set(read.tensors) == {"a", "b"}
    for name, value in tensors.items():
        np.testing.assert_array_equal(read.read(name), value.astype(np.float32))
        assert read.read(name).dtype == np.float32


def test_bfloat16_is_the_upper_half_of_a_float(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5], dtype=np.float32)
    body = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "x").write_bytes(packed({"a": entry(dtype="BF16", data_offsets=[0, 4])}, body))
    np.testing.assert_array_equal(open_safetensors(tmp_path / "x").read("a"), values)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin with a header"),
        (b"\xff" * 8, "does not begin with a header"),
        (struct.pack("<Q", 50) + b"{}", "does not begin with a header"),
        (packed(b"{"), "not JSON"),
        (packed(b"[" * 100000), "not JSON"),
        (packed(b"\xff\xfe"), "not JSON"),
        (packed([]), "not a JSON object"),
        (packed({"__metadata__": {"a": 1}}), "metadata is not text"),
        (packed({"a": 5}), "incomplete"),
        (packed({"a": {"dtype": "F32"}}), "incomplete"),
        (packed({"a": entry(dtype="I64")}, b"x" * 8), "of the type I64"),
        (packed({"a": entry(dtype=["F32"])}, b"x" * 8), "of the type"),
        (packed({"a": entry(shape=[-2])}, b"x" * 8), "something else than counts"),
        (packed({"a": entry(shape=["2"])}, b"x" * 8), "something else than counts"),
        (packed({"a": entry(shape=[3])}, b"x" * 8), "does not fit its place"),
        (packed({"a": entry()}, b"x" * 7), "does not fit its place"),
        (packed({"a": entry(data_offsets=[8, 16])}, b"x" * 8), "does not fit its place"),
    ],
)
def test_what_is_no_sound_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SafetensorsError, match=words):
        open_safetensors(tmp_path / "x")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_all_numbers_of_eight_bits_are_read_as_they_are_defined(tmp_path: Path, dtype: str) -> None:
    values = np.arange(256, dtype=np.uint8).view(TYPES[dtype]).astype(np.float32)
    body = bytes(range(256))
    (tmp_path / "x").write_bytes(packed({"a": entry(dtype=dtype, shape=[256], data_offsets=[0, 256])}, body))
    np.testing.assert_array_equal(open_safetensors(tmp_path / "x", ALL).read("a"), values)


def test_whole_numbers_are_passed_over_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(packed({"a": entry(dtype="I64", shape=[1], data_offsets=[0, 8])}, b"x" * 8))
    with pytest.raises(SafetensorsError, match="holds no fractions"):
        open_safetensors(tmp_path / "x", ALL).read("a")
