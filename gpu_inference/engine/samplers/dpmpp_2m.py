"""DPM-Solver++(2M), the second-order multistep solver on clean estimates (Lu et al. 2022, algorithm 2)."""

from __future__ import annotations

import math
from typing import Optional, Tuple

import numpy as np

from gpu_inference.engine.samplers.base import Array
from gpu_inference.engine.schedule import NoiseSchedule


def _alpha_sigma(sigma: float) -> Tuple[float, float]:
    """(alpha, sigma) of the variance-preserving form, ``alpha^2 + sigma^2 = 1``."""
    alpha = 1.0 / (sigma * sigma + 1.0) ** 0.5
    return alpha, sigma * alpha


def _lambda(sigma: float) -> float:
    """Half the logarithm of the signal-to-noise ratio."""
    return -math.log(sigma)


class DPMPP2M:
    """Deterministic; second order after the first step, first order into sigma zero. Latents of unit variance."""

    needs_noise = False

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        self.timesteps = schedule.timesteps(steps, steps + 1)
        self._sigmas = schedule.sigmas_at(self.timesteps)
        self._prediction_type = schedule.prediction_type
        self._previous: Optional[Array] = None

    def start(self, noise: Array) -> Array:
        """The noise itself."""
        return noise

    def model_input(self, latents: Array, index: int) -> Array:
        """The latents themselves."""
        return latents

    def step(self, latents: Array, prediction: Array, index: int, noise: Optional[Array] = None) -> Array:
        """One solver step, remembering this step's clean estimate for the next."""
        sigma, following = float(self._sigmas[index]), float(self._sigmas[index + 1])
        alpha_now, sigma_now = _alpha_sigma(sigma)
        if self._prediction_type == "epsilon":
            clean = (latents - prediction * sigma_now) / alpha_now
        else:
            clean = latents * alpha_now - prediction * sigma_now
        previous, self._previous = self._previous, clean
        if following == 0.0:
            return np.asarray(clean)
        alpha_next, sigma_next = _alpha_sigma(following)
        width = _lambda(following) - _lambda(sigma)
        weight = -alpha_next * math.expm1(-width)
        target = clean
        if previous is not None:
            ratio = (_lambda(sigma) - _lambda(float(self._sigmas[index - 1]))) / width
            target = clean + (clean - previous) * (0.5 / ratio)
        return np.asarray(latents * (sigma_next / sigma_now) + target * weight)
