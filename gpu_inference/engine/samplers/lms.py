"""Linear multistep: Adams and Bashforth's method on sigmas that are not evenly spaced.

The slope of the probability-flow ODE (Karras et al. 2022, equation 3) is interpolated through the last four steps by
Lagrange's polynomial, which is integrated to the next sigma (Hairer, Norsett and Wanner, "Solving ordinary
differential equations I", chapter III.5).
"""

from __future__ import annotations

from typing import List, Optional, Sequence

import numpy as np

from gpu_inference.engine.samplers.base import Array, clean_estimate
from gpu_inference.engine.samplers.euler import Euler
from gpu_inference.engine.schedule import NoiseSchedule

ORDER = 4


def multistep_weights(nodes: Sequence[float], end: float) -> List[float]:
    """The weight of the slope at each of ``nodes``, newest first, in the step from the newest to ``end``."""
    here = nodes[0]
    weights = []
    for index, node in enumerate(nodes):
        others = [other for place, other in enumerate(nodes) if place != index]
        basis = np.poly([other - here for other in others]) if others else np.array([1.0])
        scale = float(np.prod([node - other for other in others]))
        weights.append(float(np.polyval(np.polyint(basis), end - here)) / scale)
    return weights


class LMS(Euler):
    """Deterministic, up to fourth order, one call of the model a step; latents in sigma space.

    The last step is no exception: the polynomial is integrated to sigma zero. A terminal SNR of zero counts as its
    stand-in, sigma 4096; the first step is Euler's, and that far a node weighs next to nothing in the later ones.
    """

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        super().__init__(schedule, steps)
        self._slopes: List[Array] = []

    def step(self, latents: Array, prediction: Array, index: int, noise: Optional[Array] = None) -> Array:
        """One multistep step, remembering this step's slope for the next ones."""
        sigma = self._sigmas[index]
        clean = clean_estimate(self._prediction_type, latents, prediction, sigma)
        self._slopes = [(latents - clean) / sigma, *self._slopes[: ORDER - 1]]
        nodes = [float(self._sigmas[index - back]) for back in range(len(self._slopes))]
        weights = multistep_weights(nodes, float(self._sigmas[index + 1]))
        return np.asarray(latents + sum(slope * np.float32(weight) for slope, weight in zip(self._slopes, weights)))
