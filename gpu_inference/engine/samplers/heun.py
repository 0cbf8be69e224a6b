"""Heun's method on the probability-flow ODE (Karras et al. 2022, algorithm 1, without churn)."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from gpu_inference.engine.samplers.base import ONE, Array, clean_estimate, start_sigma
from gpu_inference.engine.schedule import NoiseSchedule


class Heun:
    """Deterministic, second order; latents in sigma space.

    A step follows the slope at its beginning, asks the model again where that leads, and goes back to take the mean
    of both slopes. The last step, into sigma zero, has no slope at its end and is Euler's, so N steps are 2 N - 1
    calls of the model; ``timesteps`` has one entry a call.

    From a terminal SNR of zero, whose stand-in is sigma 4096, the first correction is made in ``1 / sigma``, in which
    ``d(x / sigma) / d(1 / sigma)`` is the clean estimate and finite (the same ODE in the variables of Lu et al. 2022b,
    proposition 4.1). In sigma it would be 4096 over the next sigma times too large.
    """

    needs_noise = False

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        timesteps = schedule.timesteps(steps, steps)
        self._sigmas = schedule.sigmas_at(timesteps)
        self.timesteps = np.append(timesteps[:1], np.repeat(timesteps[1:], 2))
        self._prediction_type = schedule.prediction_type
        self._start = start_sigma(self._sigmas, schedule.spacing)
        self._from_zero_snr = schedule.zero_terminal_snr and timesteps[0] == schedule.train_timesteps - 1
        self._begun: Tuple[Array, Array, Array] = (np.empty(0), np.empty(0), np.empty(0))

    def start(self, noise: Array) -> Array:
        """Noise at the first sigma."""
        return np.asarray(noise * self._start)

    def model_input(self, latents: Array, index: int) -> Array:
        """Latents of unit variance."""
        return np.asarray(latents / np.sqrt(self._sigmas[(index + 1) // 2] ** 2 + ONE))

    def step(self, latents: Array, prediction: Array, index: int, noise: Optional[Array] = None) -> Array:
        """Even calls follow the slope to the next sigma, odd ones go the same step again with the mean slope."""
        place = index // 2
        here, there = self._sigmas[place], self._sigmas[place + 1]
        if index % 2 == 0:
            clean = clean_estimate(self._prediction_type, latents, prediction, here)
            slope = (latents - clean) / here
            self._begun = latents, slope, clean
            return np.asarray(latents + slope * (there - here))
        before, slope, clean = self._begun
        second = clean_estimate(self._prediction_type, latents, prediction, there)
        if place == 0 and self._from_zero_snr:
            ratio = there / here
            return np.asarray(before * ratio + (clean + second) * ((ONE - ratio) / 2))
        mean = (slope + (latents - second) / there) / 2
        return np.asarray(before + mean * (there - here))
