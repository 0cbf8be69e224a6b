# Copyright: Fleet Commander contributors. Apache-2.0.
"""What is in a PNG file, as far as one wants to know whether it is a picture at all."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FEWEST = 16
"""A picture has more different bytes than this; one of a single colour, as a broken model makes, has a handful."""


class NoPicture(Exception):
    """This is no picture; the text is a sentence."""


def size_of(content: bytes) -> tuple[int, int]:
    """Return width and height in pixels of a sound PNG that shows something. Raises NoPicture."""
    if not content.startswith(SIGNATURE):
        raise NoPicture(f"It is no PNG: it begins with {content[:8]!r}.")
    size, data, at = None, b"", len(SIGNATURE)
    while at < len(content):
        if at + 12 > len(content):
            raise NoPicture("It is cut off.")
        (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        body, check = content[at + 8 : at + 8 + length], content[at + 8 + length : at + 12 + length]
        if len(check) < 4 or struct.unpack(">I", check)[0] != zlib.crc32(kind + body):
            raise NoPicture("It is cut off, or damaged.")
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            data += body
        at += 12 + length
    try:
        pixels = zlib.decompress(data)
    except zlib.error:
        raise NoPicture("Its pixels cannot be read.") from None
    if size is None or len(set(pixels)) < FEWEST:
        raise NoPicture("It shows nothing: all of it has one colour.")
    return (size[0], size[1])
