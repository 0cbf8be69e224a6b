"""Euler's method with ancestral noise: each step goes below the next sigma and returns to it with fresh noise."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from gpu_inference.engine.samplers.base import Array, clean_estimate
from gpu_inference.engine.samplers.euler import Euler


def ancestral_split(sigma: np.float32, following: np.float32) -> Tuple[np.float32, np.float32]:
    """(down, up) with ``down^2 + up^2 = following^2``, the variance of DDPM's posterior in sigma space.

    In float32, as diffusers does it: from a very large sigma ``down`` cancels to a few bits there, which shows.
    """
    here, there = sigma * sigma, following * following
    up = np.sqrt(there * (here - there) / here)
    return np.sqrt(np.maximum(there - up * up, np.float32(0))), up


class EulerAncestral(Euler):
    """As :class:`Euler`, stochastic."""

    needs_noise = True

    def step(self, latents: Array, prediction: Array, index: int, noise: Optional[Array] = None) -> Array:
        """Follows the slope to ``down``, then adds noise of deviation ``up``. Raises ValueError without noise."""
        if noise is None:
            raise ValueError("An ancestral step needs noise.")
        sigma, following = self._sigmas[index], self._sigmas[index + 1]
        down, up = ancestral_split(sigma, following)
        clean = clean_estimate(self._prediction_type, latents, prediction, sigma)
        slope = (latents - clean) / sigma
        return np.asarray(latents + slope * (down - sigma) + noise * up)
