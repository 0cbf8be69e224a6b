from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_api.models.finite import Finite
from fleet_api.models.safetensors import check
from tests.support.models import safetensors

TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@given(data=st.data())
def test_it_finds_what_numpy_finds_however_the_bytes_come(dtype: str, data: st.DataObject) -> None:
    width = np.dtype(TYPES[dtype]).itemsize
    tensors, finite = {}, True
    for name in "abc":
        count = data.draw(st.integers(0, 5))
        # all ones in the high bytes are what is looked for: bytes that are near it come often
        byte = st.sampled_from([0, 1, 0x7B, 0x7C, 0x7E, 0x7F, 0x80, 0xEF, 0xF0, 0xFB, 0xFC, 0xFE, 0xFF])
        content = bytes(data.draw(st.lists(byte, min_size=count * width, max_size=count * width)))
        tensors[name] = (dtype, [count], content)
        with np.errstate(invalid="ignore"):
            finite &= bool(np.isfinite(np.frombuffer(content, TYPES[dtype]).astype(np.float64)).all())
    tensors["whole"] = ("I32", [2], b"\xff" * 8)
    file = safetensors(tensors)
    looking = Finite(check(lambda offset, count: file[offset : offset + count], len(file)))
    size = data.draw(st.integers(1, len(file)))
    for at in range(0, len(file), size):
        looking.feed(file[at : at + size])
    assert (looking.note == "") is finite


def test_the_sentence_names_the_tensor() -> None:
    file = safetensors({"a": ("F32", [1], b"\0" * 4), "b": ("F32", [1], b"\0\0\xc0\x7f")})
    looking = Finite(check(lambda offset, count: file[offset : offset + count], len(file)))
    looking.feed(file)
    assert looking.note == "Its tensor 'b' holds values that are not numbers (NaN or infinite)."
