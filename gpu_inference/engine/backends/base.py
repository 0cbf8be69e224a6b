"""What a backend offers: a loaded model on one device."""

from __future__ import annotations

from typing import Any, Optional, Protocol

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.conditioning import Conditioning
from gpu_inference.engine.loras import Lora

Array = npt.NDArray[Any]


class Backend(Protocol):
    """One model on one device. Calls come from one thread, ``adapt`` before ``prepare`` before ``denoise``."""

    name: str
    device: str

    def adapt(self, lora: Optional[Lora], strength: float) -> None:
        """Changes the UNet's weights by ``strength`` times a LoRA, or back to its own: None, or strength 0.

        Raises :class:`gpu_inference.engine.errors.LoraError` for one that does not fit; the weights are then unchanged.
        """

    def prepare(self, conditioning: Conditioning) -> None:
        """Encodes the prompts and takes all that stays the same for a picture to the device."""

    def denoise(self, latents: Array, timestep: float) -> Array:
        """The guided prediction, float32 of the latents' shape ``[1, channels, height, width]``."""

    def decode(self, latents: Array) -> Array:
        """Final latents ``[1, channels, h, w]`` to a picture, float32 ``[1, 3, f * h, f * w]`` in -1 to 1."""

    def close(self) -> None:
        """Frees the device."""


def guide(negative: Array, positive: Array, scale: float, rescale: float) -> Array:
    """Classifier-free guidance (Ho and Salimans 2022), its deviation partly restored (Lin et al. 2023, section 3.4).

    Predictions are ``[1, channels, height, width]``; ``rescale`` 0 leaves the guided prediction as it is.
    """
    guided = negative + (positive - negative) * scale
    if rescale <= 0.0:
        return np.asarray(guided)
    deviation = float(guided.std())
    if deviation == 0.0:
        return np.asarray(guided)
    factor = rescale * (float(positive.std()) / deviation) + (1.0 - rescale)
    return np.asarray(guided * factor)
