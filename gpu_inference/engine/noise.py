"""Noise keyed by seed and step, so that nothing depends on the order of calls.

The bits are numpy's Philox 4x64-10 with the seed as its key and the step in the top word of its counter: streams of
different steps never meet. Bits become normals by Box and Muller's transform in float64, whose stream, unlike that of
``Generator.standard_normal``, does not change between numpy versions.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
import numpy.typing as npt

MAX_SEED = 2**63 - 1
_STEP_SHIFT = 192
"""The counter has four words of 64 bits; drawing counts in the lowest."""


def normal(seed: int, step: int, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Standard normal noise of ``shape``; ``step`` 0 is the starting noise, ``i`` that of the i-th step.

    Raises ValueError for a seed outside 0 to 2^63 - 1 or a negative step.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"A seed lies between 0 and 2^63 - 1, and {seed} was given.")
    if step < 0:
        raise ValueError(f"A step is not negative, and {step} was given.")
    count = int(np.prod(shape))
    pairs = (count + 1) // 2
    bits = np.random.Philox(key=seed, counter=step << _STEP_SHIFT).random_raw(2 * pairs)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[0::2]))
    angle = 2.0 * np.pi * uniform[1::2]
    values = np.empty(2 * pairs, dtype=np.float64)
    values[0::2] = radius * np.cos(angle)
    values[1::2] = radius * np.sin(angle)
    return values[:count].astype(np.float32).reshape(tuple(shape))
