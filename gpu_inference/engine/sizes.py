"""From the size asked for to the size a model makes well, and back.

A model is good at the sizes it was trained at. A request is rendered at the one whose aspect is nearest, enlarged or
reduced until it covers what was asked, and cut to it around the centre, so that nothing is stretched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence, Tuple


@dataclass(frozen=True)
class SizePlan:
    """How a picture of ``width`` x ``height`` pixels is made; all figures in pixels.

    Rendered at ``native``, scaled to ``cover``, cut to the size asked for from (``left``, ``top``).
    """

    width: int
    height: int
    native_width: int
    native_height: int
    cover_width: int
    cover_height: int
    left: int
    top: int

    @property
    def scaled(self) -> bool:
        """Whether the picture differs in size from what the model made."""
        return (self.width, self.height) != (self.native_width, self.native_height)

    @property
    def cut(self) -> float:
        """The part of the rendered picture that is cut off, 0 to 1."""
        return 1.0 - (self.width * self.height) / (self.cover_width * self.cover_height)


def native_size(width: int, height: int, buckets: Sequence[Tuple[int, int]]) -> Tuple[int, int]:
    """The (width, height) of ``buckets`` whose aspect is nearest by ratio; the larger of two as near."""
    wanted = math.log(width / height)
    return min(buckets, key=lambda size: (round(abs(math.log(size[0] / size[1]) - wanted), 9), -size[0] * size[1]))


def plan_size(width: int, height: int, buckets: Sequence[Tuple[int, int]]) -> SizePlan:
    """Plans a picture of ``width`` x ``height`` pixels for a model trained at ``buckets``."""
    native_width, native_height = native_size(width, height, buckets)
    factor = max(width / native_width, height / native_height)
    cover_width = max(width, round(native_width * factor))
    cover_height = max(height, round(native_height * factor))
    return SizePlan(
        width=width,
        height=height,
        native_width=native_width,
        native_height=native_height,
        cover_width=cover_width,
        cover_height=cover_height,
        left=(cover_width - width) // 2,
        top=(cover_height - height) // 2,
    )
