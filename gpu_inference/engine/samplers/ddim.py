"""DDIM without noise, eta 0 (Song et al. 2021, equation 12)."""

from __future__ import annotations

from typing import Optional

import numpy as np

from gpu_inference.engine.samplers.base import ONE, Array
from gpu_inference.engine.schedule import NoiseSchedule


class DDIM:
    """Deterministic, first order, one call of the model a step; latents of unit variance.

    The last step goes to the clean estimate itself. From a terminal SNR of zero a model of velocities is stepped from
    exactly that, alpha 0 (Lin et al. 2023, section 3.3): its first estimate is ``-v``, whatever the noise.
    """

    needs_noise = False

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        self.timesteps = schedule.timesteps(steps, steps)
        self._prediction_type = schedule.prediction_type
        cumulative = np.append(schedule.alphas_cumprod[self.timesteps.astype(int)], ONE)
        if schedule.zero_terminal_snr and self._prediction_type == "v_prediction":
            cumulative[:-1][self.timesteps == schedule.train_timesteps - 1] = 0.0
        self._alphas = np.sqrt(cumulative)
        self._sigmas = np.sqrt(ONE - cumulative)

    def start(self, noise: Array) -> Array:
        """The noise itself."""
        return noise

    def model_input(self, latents: Array, index: int) -> Array:
        """The latents themselves."""
        return latents

    def step(self, latents: Array, prediction: Array, index: int, noise: Optional[Array] = None) -> Array:
        """Splits the latents into clean estimate and noise, and mixes them again for the next timestep."""
        alpha, sigma = self._alphas[index], self._sigmas[index]
        if self._prediction_type == "epsilon":
            clean, eps = (latents - prediction * sigma) / alpha, prediction
        else:
            clean, eps = latents * alpha - prediction * sigma, prediction * alpha + latents * sigma
        return np.asarray(clean * self._alphas[index + 1] + eps * self._sigmas[index + 1])
