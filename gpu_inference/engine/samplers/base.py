"""What a sampler offers, and what the samplers share.

Arrays and the sigma-space scalars are float32, and terms are taken in the order that diffusers takes them: from a
sigma of 4096 rounding alone is 1e-3, so that any other order would give visibly other latents.
"""

from __future__ import annotations

from typing import Any, Optional, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Sampler(Protocol):
    """Walks one picture's latents, float32 ``[1, channels, height, width]``, from noise to the end.

    ``step`` is called once for each index from 0 to ``len(timesteps) - 1``, in this order, with what the model says
    at ``timesteps[index]``: an entry a call of the model, which for some samplers is more than one a step.
    ``needs_noise`` says whether it wants fresh standard normal noise of the latents' shape.
    """

    timesteps: Array
    needs_noise: bool

    def start(self, noise: Array) -> Array:
        """The latents to begin with, from standard normal noise."""

    def model_input(self, latents: Array, index: int) -> Array:
        """What the model is shown at this call."""

    def step(self, latents: Array, prediction: Array, index: int, noise: Optional[Array] = None) -> Array:
        """The latents to go on with, from the model's (guided) prediction."""


ONE = np.float32(1)


def clean_estimate(prediction_type: str, latents: Array, prediction: Array, sigma: np.float32) -> Array:
    """The estimate of the clean latents, for latents in sigma space (``x = x0 + sigma * noise``).

    For ``epsilon`` it is ``x - sigma * eps``; for ``v_prediction`` (Salimans and Ho 2022), with
    ``x / sqrt(sigma^2 + 1)`` as the model's input, ``x / (sigma^2 + 1) - v * sigma / sqrt(sigma^2 + 1)``.
    """
    if prediction_type == "epsilon":
        return np.asarray(latents - prediction * sigma)
    square = sigma * sigma + ONE
    return np.asarray(prediction * (-sigma / np.sqrt(square)) + latents / square)


def start_sigma(sigmas: Array, spacing: str) -> np.float32:
    """The standard deviation of the first latents in sigma space.

    Schedules that do not begin at the last timestep begin with some signal, whose variance of one is added.
    """
    largest = np.float32(sigmas.max())
    return largest if spacing == "trailing" else np.sqrt(largest * largest + ONE)
