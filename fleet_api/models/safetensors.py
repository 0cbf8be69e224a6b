"""Is a file what its name says: a safetensors file, sound in every figure of its header. Nothing in it is executed or unpacked.

The format (huggingface.co/docs/safetensors): eight bytes with the length of the header, little-endian; the header, a JSON object of
tensors with type, shape and place, and of ``__metadata__``, text by name; then the tensors' bytes, without gaps.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_api.errors import InvalidValue

MAX_HEADER = 16 * 1024 * 1024
MAX_TENSORS = 100_000
MAX_SIDES = 16
PREFIX, SHORT = 8, 2
FIRST_BYTES = 64
"""So many bytes of a file say whether it is something else altogether."""

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive, as PyTorch's .ckpt and .pt files are: it holds a pickle, which can run code when it is opened"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
    (b"%PDF", "a PDF"),
)
Read = Callable[[int, int], bytes]
"""Reads so many bytes from an offset; fewer at the end."""


class NotSafetensors(InvalidValue):
    """The content is not that of a safetensors file."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a sound file says of itself. ``tensors`` are names with shapes, ``places`` their types, and where they are in the file."""

    metadata: dict[str, str]
    tensors: dict[str, tuple[int, ...]]
    places: dict[str, tuple[str, int, int]]


def refuse_foreign(first: bytes, size: int | None) -> None:
    """Look at a file's first bytes, as soon as they are there. Raises NotSafetensors with what the file is instead."""
    braced = first[PREFIX : PREFIX + 1] == b"{"  # then short marks may be a header's length
    for magic, what in _FOREIGN:
        if first.startswith(magic) and not (braced and len(magic) == SHORT):
            raise NotSafetensors(f"file: it is {what}; only .safetensors is taken.")
    if _PICKLE.match(first) and not braced:
        raise NotSafetensors("file: it is a Python pickle, which can run code when it is opened; only .safetensors is taken.")
    if len(first) >= PREFIX:
        _length(first[:PREFIX], size)
    if len(first) > PREFIX and not braced:
        raise NotSafetensors("file: it is no safetensors file: no header follows its first eight bytes.")


def check_file(path: Path) -> Header:
    """Check a file on disk. Raises NotSafetensors with one sentence."""
    with path.open("rb") as file:

        def read(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        return check(read, path.stat().st_size)


def check(read: Read, size: int) -> Header:
    """Check a file of ``size`` bytes by reading its header alone. Raises NotSafetensors with one sentence."""
    if size == 0:
        raise NotSafetensors("file: it is empty.")
    first = read(0, FIRST_BYTES)
    refuse_foreign(first, size)
    if size < PREFIX or len(first) < PREFIX:
        raise NotSafetensors(f"file: it is no safetensors file: it ends after {size} bytes, before its header.")
    length = _length(first[:PREFIX], size)
    text = read(PREFIX, length)
    if len(text) != length:
        raise NotSafetensors(f"file: it ends within its header, which should have {length:,} bytes.")
    header = _parsed(text)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise NotSafetensors("file: the __metadata__ of its header is not text by name.")
    if not header:
        raise NotSafetensors("file: it holds no tensor.")
    if len(header) > MAX_TENSORS:
        raise NotSafetensors(f"file: it names {len(header):,} tensors, and {MAX_TENSORS:,} at most are taken.")
    tensors = {name: _tensor(name, entry) for name, entry in header.items()}
    _check_places(tensors, size - PREFIX - length)
    start = PREFIX + length
    places = {name: (header[name]["dtype"], start + begin, start + end) for name, (_, begin, end) in tensors.items()}
    return Header(metadata, {name: shape for name, (shape, _, _) in tensors.items()}, places)


def _length(prefix: bytes, size: int | None) -> int:
    length: int = struct.unpack("<Q", prefix)[0]
    if size is not None and length > size - PREFIX:
        raise NotSafetensors(f"file: its first bytes tell of a header of {length:,} bytes, and the whole file has {size:,}.")
    if length > MAX_HEADER:
        raise NotSafetensors(f"file: its first bytes tell of a header of {length:,} bytes, and {MAX_HEADER:,} at most are taken.")
    if length < 2:
        raise NotSafetensors(f"file: its first bytes tell of a header of {length} bytes, too few for any.")
    return length


def _parsed(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise NotSafetensors(f"file: its header names {_shown(key)} twice.")
            found[key] = value
        return found

    def no_constant(word: str) -> None:
        raise NotSafetensors(f"file: its header holds {word}, which is not JSON.")

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise NotSafetensors("file: its header is not JSON in UTF-8.") from None
    if not isinstance(header, dict):
        raise NotSafetensors("file: its header is not a JSON object.")
    return header


def _tensor(name: str, entry: Any) -> tuple[tuple[int, ...], int, int]:
    """Return a tensor's shape, and where it begins and ends among the tensors' bytes."""
    if not name or len(name) > 500 or not _PRINTABLE.fullmatch(name):
        raise NotSafetensors(f"file: the tensor name {_shown(name)} is empty, too long or holds control characters.")
    if name.startswith(("/", "~")) or "\\" in name or ".." in name.split("/") or re.match(r"[A-Za-z]:/", name):
        raise NotSafetensors(f"file: the tensor name {_shown(name)} is a path.")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise NotSafetensors(f"file: the entry of the tensor {_shown(name)} must have dtype, shape and data_offsets, and nothing else.")
    dtype, shape, places = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise NotSafetensors(f"file: the tensor {_shown(name)} has the type {_shown(dtype)}; known are {', '.join(BITS)}.")
    if not isinstance(shape, list) or len(shape) > MAX_SIDES or not all(_count(side) for side in shape):
        raise NotSafetensors(f"file: the shape of the tensor {_shown(name)} is not a list of at most {MAX_SIDES} counts.")
    if not isinstance(places, list) or len(places) != 2 or not all(_count(place) for place in places):
        raise NotSafetensors(f"file: the data_offsets of the tensor {_shown(name)} are not two counts.")
    bits = BITS[dtype]
    for side in shape:
        bits *= side
    if bits != 8 * (places[1] - places[0]):
        raise NotSafetensors(f"file: the tensor {_shown(name)} has {places[1] - places[0]:,} bytes, and its shape wants {-(-bits // 8):,}.")
    return tuple(shape), places[0], places[1]


def _check_places(tensors: dict[str, tuple[tuple[int, ...], int, int]], there: int) -> None:
    """Raise unless the tensors follow one another without gap or overlap, to the file's last byte."""
    end = 0
    for name, (_, begin, stop) in sorted(tensors.items(), key=lambda each: each[1][1:]):
        if begin != end:
            kind = "overlaps the one before it" if begin < end else "leaves a gap before it"
            raise NotSafetensors(f"file: the tensor {_shown(name)} {kind}.")
        end = stop
    if end > there:
        raise NotSafetensors(f"file: it ends early: its tensors want {end:,} bytes, and {there:,} are there.")
    if end < there:
        raise NotSafetensors(f"file: {there - end:,} bytes follow its last tensor, which nothing in its header explains.")


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _shown(value: Any) -> str:
    return ascii(str(value)[:60])
