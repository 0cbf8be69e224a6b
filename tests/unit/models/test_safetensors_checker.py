"""The checker of safetensors files: sound ones pass, whatever they hold; what is changed anywhere in its header is refused or sound."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_api.models.safetensors import BITS, FIRST_BYTES, NotSafetensors, check, check_file, refuse_foreign
from tests.support.checkout import ROOT
from tests.support.models import HOSTILE, Tensors, lora, one, safetensors

NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"], exclude_characters="/\\~"), min_size=1, max_size=30).filter(
    lambda text: text not in ("..", "__metadata__") and text.isprintable()
)


@st.composite
def sound(draw: st.DrawFn) -> tuple[bytes, Tensors]:
    tensors: Tensors = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=6, unique=True)):
        dtype = draw(st.sampled_from([each for each, bits in BITS.items() if bits % 8 == 0]))
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        count = 1
        for side in shape:
            count *= side
        tensors[name] = dtype, shape, b"\1" * (count * BITS[dtype] // 8)
    return safetensors(tensors, draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))), tensors


def checked(data: bytes):  # type: ignore[no-untyped-def]
    return check(lambda offset, count: data[offset : offset + count], len(data))


@given(sound())
def test_a_sound_file_passes(made: tuple[bytes, Tensors]) -> None:
    data, tensors = made
    header = checked(data)
    assert {name: list(shape) for name, shape in header.tensors.items()} == {name: shape for name, (_, shape, _) in tensors.items()}


@given(sound(), st.data())
@settings(max_examples=300)
def test_a_changed_file_is_refused_with_a_sentence_or_still_sound(made: tuple[bytes, Tensors], data: st.DataObject) -> None:
    content = bytearray(made[0])
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    try:
        said = f"file: it has {len(checked(bytes(content)).tensors)} tensors."
    except NotSafetensors as error:
        said = error.detail
    assert said.startswith("file: ")
    assert said.endswith(".")
    assert said.isprintable()


@given(sound(), st.data())
def test_a_file_cut_anywhere_is_refused(made: tuple[bytes, Tensors], data: st.DataObject) -> None:
    content = made[0]
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(NotSafetensors):
        checked(content[:cut])


@given(st.binary(max_size=300))
def test_any_bytes_give_a_sentence(content: bytes) -> None:
    with pytest.raises(NotSafetensors, match=r"^file: .*\.$"):
        checked(content)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_by_their_header_alone(case: str) -> None:
    data, words = HOSTILE[case]
    read = []

    def look(offset: int, count: int) -> bytes:
        read.append(count)
        return data[offset : offset + count]

    with pytest.raises(NotSafetensors) as refused:
        check(look, len(data))
    assert words in refused.value.detail
    assert sum(read) <= len(data) + 2 * FIRST_BYTES


@pytest.mark.parametrize("length", [0x280, 0x8B1F, 0x5A4D, 0x2123, 0x480, 0x380])
def test_a_header_whose_length_looks_like_something_else_is_none_of_it(length: int) -> None:
    """640 in little-endian bytes is how a pickle begins; 35,615 is gzip's mark."""
    bare = safetensors({"w": ("U8", [1], b"\1")}, {"pad": ""})
    padding = length - int.from_bytes(bare[:8], "little")
    data = safetensors({"w": ("U8", [1], b"\1")}, {"pad": "x" * padding})
    assert int.from_bytes(data[:8], "little") == length
    refuse_foreign(data[:FIRST_BYTES], len(data))
    assert checked(data).tensors == {"w": (1,)}


def test_the_built_in_lora_and_ours_pass(tmp_path: Path) -> None:
    assert check_file(ROOT / "gpu_inference/builtin/loras/night.safetensors").metadata["base_model"]
    for data in (lora("x"), one()):
        (tmp_path / "x").write_bytes(data)
        assert check_file(tmp_path / "x").tensors


def test_half_bytes_fill_whole_ones() -> None:
    assert checked(safetensors({"w": ("F4", [2, 3], b"\0" * 3)})).tensors == {"w": (2, 3)}
    with pytest.raises(NotSafetensors, match="its shape wants"):
        checked(safetensors({"w": ("F4", [3], b"\0")}))
