"""Small pictures of a picture in the making: each cell of the latents as one colour, by a linear map from channels to red, green, blue.

They are made from what the sampler would end with if the last prediction were all, which shows more than the noisy latents.
"""

from __future__ import annotations

import io
import time
from typing import Any, Callable, List, Optional, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]

SDXL_FACTORS: Sequence[Sequence[float]] = (
    (0.3920, 0.4054, 0.4549),
    (-0.2634, -0.0196, 0.0653),
    (0.0568, 0.1687, -0.0755),
    (-0.3112, -0.2359, -0.2076),
)
"""Red, green and blue of each channel of SDXL's latents, as is usual for them; for models whose manifest has none of its own."""

LEAST_SECONDS = 0.5
LEAST_SIDE, MOST_SIDE = 128, 256
QUALITY = 80


def colours(latents: Array, factors: Sequence[Sequence[float]]) -> Array:
    """Latents ``[channels, h, w]`` as bytes ``[h, w, 3]``. A factor more than there are channels is what is added to all."""
    table = np.asarray(factors, dtype=np.float32)
    count = min(len(latents), len(table))
    mixed = np.einsum("chw,cr->hwr", latents[:count].astype(np.float32), table[:count])
    if len(table) > len(latents):
        mixed = mixed + table[-1]
    return np.asarray(np.clip(np.nan_to_num(mixed) * 127.5 + 127.5, 0, 255).astype(np.uint8))


def jpeg(latents: Array, factors: Sequence[Sequence[float]]) -> bytes:
    """A JPEG of 128 to 256 pixels on its longer side."""
    picture = Image.fromarray(np.ascontiguousarray(colours(latents, factors)))
    side = max(picture.size)
    wanted = min(MOST_SIDE, max(LEAST_SIDE, side))
    if wanted != side:
        size = (max(1, picture.width * wanted // side), max(1, picture.height * wanted // side))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()


class Previewer:
    """Shows every ``every``-th step, at most two a second, by ``send(step, jpeg)``."""

    def __init__(self, every: int, send: Callable[[int, bytes], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._send = send
        self._clock = clock
        self._last_step = 0
        self._last = clock()

    def due(self, step: int) -> bool:
        """Whether the estimate after ``step`` steps is to be shown."""
        return step >= self._last_step + self._every and self._clock() - self._last >= LEAST_SECONDS

    def show(self, step: int, latents: Array, factors: Optional[List[List[float]]]) -> None:
        """Shows it. ``latents`` are ``[channels, h, w]``."""
        self._last_step, self._last = step, self._clock()
        self._send(step, jpeg(latents, factors or SDXL_FACTORS))
