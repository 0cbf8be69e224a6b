"""What a backend offers: a loaded model on one device."""

from __future__ import annotations

from typing import Any, Protocol, Sequence

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.conditioning import Conditioning
from gpu_inference.engine.loras import Applied

Array = npt.NDArray[Any]


class Backend(Protocol):
    """One model on one device. Calls come from one thread, ``adapt`` before ``prepare`` before ``denoise``."""

    name: str
    device: str
    most_pictures: int
    """So many it can make at once."""

    parks: bool
    """Whether it can :meth:`park` at all."""

    usual_pictures: int
    """So many at once are worth it, where nothing else is said."""

    def adapt(self, loras: Sequence[Applied]) -> None:
        """Changes the model's weights by LoRAs, each by its strength, or back to its own where there are none.

        Raises :class:`gpu_inference.engine.errors.LoraError` for one that does not fit; the weights are then unchanged.
        """

    def prepare(self, conditionings: Sequence[Conditioning]) -> None:
        """Encodes the prompts of n pictures of one size, all guided or none, and takes what stays the same for them to the device."""

    def denoise(self, latents: Array, timestep: float) -> Array:
        """The guided predictions, float32 of the latents' shape ``[n, channels, height, width]``."""

    def decode(self, latents: Array) -> Array:
        """Final latents ``[n, channels, h, w]`` to pictures, float32 ``[n, 3, f * h, f * w]`` in -1 to 1."""

    def relieve(self) -> None:
        """Lets go of memory that it keeps for speed alone."""

    def park(self) -> bool:
        """Takes what is loaded to the host's memory and frees the device; False where it cannot, and then nothing has changed.

        Until :meth:`wake` or :meth:`close` it is asked for nothing.
        """

    def wake(self) -> None:
        """Takes what was parked back to the device; LoRAs have then to be asked for again (:meth:`adapt`). Raises what loading raises."""

    def close(self) -> None:
        """Frees the device, and what is parked."""


def guide(negative: Array, positive: Array, scales: Array, rescales: Array) -> Array:
    """Classifier-free guidance (Ho and Salimans 2022), its deviation partly restored (Lin et al. 2023, section 3.4).

    Predictions are ``[n, channels, height, width]``, ``scales`` and ``rescales`` ``[n]``; a rescale of 0 leaves a guided prediction as
    it is.
    """

    def spread(values: Array) -> Array:
        return np.asarray(values.reshape(len(values), -1).std(axis=1, dtype=np.float32))

    each = (-1, 1, 1, 1)
    guided = negative + (positive - negative) * scales.reshape(each)
    if not rescales.any():
        return np.asarray(guided)
    deviation = spread(guided)
    ratio = np.divide(spread(positive), deviation, out=np.ones_like(deviation), where=deviation > 0)
    return np.asarray(guided * (rescales * ratio + (1.0 - rescales)).reshape(each))
