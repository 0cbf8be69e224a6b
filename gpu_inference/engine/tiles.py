"""Decodes large latents in tiles, so that the decoder's memory does not grow with the picture.

Tiles overlap, and where they do one fades into the next, as each norm of the decoder sees its own tile alone.
"""

from __future__ import annotations

from typing import Any, Callable, List

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
OVERLAP = 0.25
"""The part of a tile's side that it shares with its neighbour."""


def starts(length: int, side: int) -> List[int]:
    """Where tiles of ``side`` begin that cover ``length``, evenly spread, at least :data:`OVERLAP` of each shared."""
    if length <= side:
        return [0]
    stride = max(1, int(side * (1.0 - OVERLAP)))
    count = -(-(length - side) // stride) + 1
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def _fade(length: int, before: int, after: int) -> Array:
    """Weights along a tile's side, rising over ``before`` values and falling over ``after``."""
    weights = np.ones(length, dtype=np.float32)
    if before:
        weights[:before] = (np.arange(before, dtype=np.float32) + 1.0) / (before + 1.0)
    if after:
        weights[-after:] = np.minimum(weights[-after:], ((np.arange(after, dtype=np.float32) + 1.0) / (after + 1.0))[::-1])
    return weights


def decode_in_tiles(decode: Callable[[Array], Array], latents: Array, side: int, factor: int) -> Array:
    """The picture ``[1, 3, factor * h, factor * w]`` of latents ``[1, channels, h, w]``; whole where neither side is above ``side``."""
    height, width = latents.shape[2:]
    if max(height, width) <= side:
        return decode(latents)
    tops, lefts = starts(height, side), starts(width, side)
    total = np.zeros((1, 3, height * factor, width * factor), dtype=np.float32)
    weight = np.zeros((height * factor, width * factor), dtype=np.float32)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            bottom, right = min(height, top + side), min(width, left + side)
            tile = decode(np.ascontiguousarray(latents[:, :, top:bottom, left:right]))
            down = _fade(tile.shape[2], *_shared(tops, row, bottom - top, factor))
            across = _fade(tile.shape[3], *_shared(lefts, column, right - left, factor))
            fading = down[:, None] * across[None, :]
            place = (slice(top * factor, bottom * factor), slice(left * factor, right * factor))
            total[0, :, place[0], place[1]] += tile[0] * fading
            weight[place] += fading
    return np.asarray(total / weight)


def _shared(begins: List[int], index: int, length: int, factor: int) -> List[int]:
    """How many pixels a tile shares with the one before and with the one after."""
    before = begins[index - 1] + length - begins[index] if index else 0
    after = begins[index] + length - begins[index + 1] if index + 1 < len(begins) else 0
    return [max(0, before) * factor, max(0, after) * factor]
