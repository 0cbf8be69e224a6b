"""DPM-Solver++(2M) on the noise levels of Karras et al. 2022, equation 5 with rho 7."""

from __future__ import annotations

import numpy as np

from gpu_inference.engine.samplers.base import Array
from gpu_inference.engine.samplers.dpmpp_2m import DPMPP2M
from gpu_inference.engine.schedule import NoiseSchedule

RHO = 7.0


def karras_sigmas(smallest: float, largest: float, steps: int) -> Array:
    """Sigmas ``[steps]``, float64, from ``largest`` to ``smallest``, even in their seventh roots."""
    ramp = np.linspace(0, 1, steps)
    high, low = largest ** (1 / RHO), smallest ** (1 / RHO)
    return np.asarray((high + ramp * (low - high)) ** RHO)


class DPMPP2MKarras(DPMPP2M):
    """As :class:`DPMPP2M`, whatever the model's timestep spacing; the model is told the nearest whole timestep.

    The levels run over the whole training schedule. A terminal SNR of zero counts as its stand-in, sigma 4096, so that
    about half of the steps lie where the picture is still noise alone: give it 15 steps or more there.
    """

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        super().__init__(schedule, steps)
        known = schedule.sigmas.astype(np.float64)
        sigmas = karras_sigmas(known[0], known[-1], steps)
        self._sigmas = np.append(sigmas, 0.0).astype(np.float32)
        places = np.interp(np.log(sigmas), np.log(known), np.arange(len(known)))
        self.timesteps = places.round().astype(np.float32)
