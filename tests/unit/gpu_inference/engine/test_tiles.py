from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gpu_inference.engine import noise
from gpu_inference.engine.tiles import OVERLAP, decode_in_tiles, starts

FACTOR = 4


def enlarge(latents: Any) -> Any:
    """A decoder whose tiles are equal to the whole: every latent pixel becomes a square."""
    return np.repeat(np.repeat(latents[:, :3], FACTOR, axis=2), FACTOR, axis=3).astype(np.float32)


@pytest.mark.parametrize(("height", "width", "side"), [(32, 32, 16), (17, 40, 16), (16, 100, 16), (33, 33, 32), (16, 16, 16)])
def test_tiles_of_a_local_decoder_are_the_whole(height: int, width: int, side: int) -> None:
    latents = noise.normal(1, 0, (1, 4, height, width))
    calls: list[tuple[int, ...]] = []

    def decode(tile: Any) -> Any:
        calls.append(tile.shape[2:])
        return enlarge(tile)

    np.testing.assert_allclose(decode_in_tiles(decode, latents, side, FACTOR), enlarge(latents), atol=1e-5)
    assert all(max(shape) <= side for shape in calls)
    assert (len(calls) == 1) == (max(height, width) <= side)


@pytest.mark.parametrize("length", range(16, 200, 7))
def test_tiles_cover_everything_and_overlap(length: int) -> None:
    begins = starts(length, 16)
    assert begins[0] == 0
    assert begins[-1] + 16 >= length
    assert all(after - before <= 16 * (1 - OVERLAP) + 1 for before, after in itertools.pairwise(begins))


def test_a_seam_fades() -> None:
    """Tiles that differ by a constant give a slope, not a step."""
    number = iter(range(100))
    picture = decode_in_tiles(lambda tile: enlarge(tile * 0) + next(number), np.zeros((1, 4, 16, 28), np.float32), 16, FACTOR)
    steps = np.abs(np.diff(picture[0, 0], axis=1))
    assert steps.max() < 0.2
    assert picture[0, 0, 0, 0] == 0
    assert picture[0, 0, 0, -1] == 1
