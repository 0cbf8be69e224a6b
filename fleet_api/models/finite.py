"""Are the numbers of a safetensors file numbers: none of its tensors of fractions may hold NaN or an infinity.

Looked at as the bytes pass by, a part at a time. A fraction is none where all bits of its exponent are set (IEEE 754; for ``F8_E4M3`` and
``F8_E8M0``, which have no infinities, where all bits of the whole but the sign are).
"""

from __future__ import annotations

from fleet_api.models.safetensors import Header

_MARKS = {
    "F64": (8, 0x7F, 0xF0), "F32": (4, 0x7F, 0x80), "C64": (4, 0x7F, 0x80), "BF16": (2, 0x7F, 0x80), "F16": (2, 0x7C, 0),
    "F8_E5M2": (1, 0x7C, 0), "F8_E4M3": (1, 0x7F, 0), "F8_E8M0": (1, 0xFF, 0),
}  # fmt: skip
"""By type: a number's bytes, and the bits of its highest byte and of the one below that are all set in what is no number."""


def _usual(bits: int) -> bytes:
    return bytes(byte for byte in range(256) if byte & bits != bits)


def _set(bits: int) -> bytes:
    return bytes(int(byte & bits == bits) for byte in range(256))


_USUAL = {bits: _usual(bits) for _, bits, _ in _MARKS.values()}
_SET = {bits: _set(bits) for _, *both in _MARKS.values() for bits in both}


class Finite:
    """Looks at a file's bytes from the first to the last. ``note`` is a sentence once something was no number."""

    def __init__(self, header: Header) -> None:
        found = sorted((begin, end, name, dtype) for name, (dtype, begin, end) in header.places.items())
        self._tensors = [each for each in found if each[0] < each[1] and each[3] in _MARKS]
        self._next = 0
        self._end = 0
        self._rest = b""
        self.note = ""

    def feed(self, chunk: bytes) -> None:
        """Take in the bytes that follow."""
        data, start = self._rest + chunk, self._end - len(self._rest)
        self._end += len(chunk)
        self._rest = b""
        while not self.note and self._next < len(self._tensors):
            begin, end, name, dtype = self._tensors[self._next]
            if begin >= self._end:
                return
            low, high = max(begin, start), min(end, self._end)  # what is kept of a tensor begins with a whole number
            high -= (high - low) % _MARKS[dtype][0]
            if not _finite(data[low - start : high - start], *_MARKS[dtype]):
                self.note = f"Its tensor {name[:100]!a} holds values that are not numbers (NaN or infinite)."
            elif end > self._end:
                self._rest = data[high - start :]
                return
            else:
                self._next += 1


def _finite(data: bytes, width: int, top: int, below: int) -> bool:
    highest = data[width - 1 :: width]
    if not highest.translate(None, _USUAL[top]):
        return True
    if not below:
        return False
    first = int.from_bytes(highest.translate(_SET[top]), "little")
    return not first & int.from_bytes(data[width - 2 :: width].translate(_SET[below]), "little")
