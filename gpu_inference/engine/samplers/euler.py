"""Euler's method on the probability-flow ODE (Karras et al. 2022, algorithm 1 without second-order correction)."""

from __future__ import annotations

from typing import Optional

import numpy as np

from gpu_inference.engine.samplers.base import ONE, Array, clean_estimate, start_sigma
from gpu_inference.engine.schedule import NoiseSchedule


class Euler:
    """Deterministic, first order; latents in sigma space."""

    needs_noise = False

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        self.timesteps = schedule.timesteps(steps, steps)
        self._sigmas = schedule.sigmas_at(self.timesteps)
        self._prediction_type = schedule.prediction_type
        self._start = start_sigma(self._sigmas, schedule.spacing)

    def start(self, noise: Array) -> Array:
        """Noise at the first sigma."""
        return np.asarray(noise * self._start)

    def model_input(self, latents: Array, index: int) -> Array:
        """Latents of unit variance."""
        return np.asarray(latents / np.sqrt(self._sigmas[index] ** 2 + ONE))

    def step(self, latents: Array, prediction: Array, index: int, noise: Optional[Array] = None) -> Array:
        """Follows the ODE's slope at this sigma to the next sigma."""
        sigma, following = self._sigmas[index], self._sigmas[index + 1]
        clean = clean_estimate(self._prediction_type, latents, prediction, sigma)
        slope = (latents - clean) / sigma
        return np.asarray(latents + slope * (following - sigma))
