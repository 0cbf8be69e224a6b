"""DPM-Solver-fast (Lu et al. 2022, "DPM-Solver", section 3.4 and algorithms 1, 2 and 5).

A number N of model calls is spent on ``N // 3 + 1`` intervals of equal width in ``lambda``, half the logarithm of the
signal-to-noise ratio: third-order steps of three calls as long as they fit, then lower ones for what is left.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from gpu_inference.engine.samplers.base import Array
from gpu_inference.engine.schedule import NoiseSchedule

NODES = {1: (0.0,), 2: (0.0, 1 / 2), 3: (0.0, 1 / 3, 2 / 3)}
"""Where in its interval a step of each order asks the model, as shares of the interval's width."""

THIRD_ORDER = {1: 2.0, 2: 1.5}
"""``r2 / r1`` and ``1 / r2`` of algorithm 2, with its ``r1 = 1/3`` and ``r2 = 2/3``; algorithm 1's ``1 / (2 r1)`` is 1."""

LOWEST = -5.1


class Call(NamedTuple):
    """One call of the model, in lambda: where its interval begins, where it is made, where it leads to."""

    order: int
    stage: int
    begin: float
    here: float
    there: float


def orders(calls: int) -> List[int]:
    """The orders of the steps that ``calls`` calls are spent on; their sum is ``calls``."""
    whole, left = divmod(calls, 3)
    if left == 0:
        return [3] * (whole - 1) + [2, 1]
    return [3] * whole + [left]


def plan(first: float, last: float, calls: int) -> List[Call]:
    """The calls that lead from lambda ``first`` to ``last``."""
    steps = orders(calls)
    edges = np.linspace(first, last, len(steps) + 1)
    made = []
    for order, begin, end in zip(steps, edges[:-1], edges[1:]):
        places = [float(begin + share * (end - begin)) for share in NODES[order]] + [float(end)]
        made += [Call(order, stage, float(begin), places[stage], places[stage + 1]) for stage in range(order)]
    return made


def alpha_sigma(lam: float) -> Tuple[float, float]:
    """(alpha, sigma) with ``alpha^2 + sigma^2 = 1`` and ``lam = log(alpha / sigma)``."""
    return 1.0 / math.sqrt(1.0 + math.exp(-2.0 * lam)), 1.0 / math.sqrt(1.0 + math.exp(2.0 * lam))


class DPMFast:
    """Deterministic, up to third order; N steps are N calls of the model in all. Latents of unit variance.

    It has its own levels, whatever the model's timestep spacing, and asks the model at timesteps between whole ones.
    A terminal SNR of zero, at which lambda has no bound, counts as lambda -5.1 (sigma 164), where the authors' own
    program cuts such schedules; the model is told the truth, the last timestep. Give it ten calls or more there.

    The solver ends at the schedule's smallest sigma; the noise of that size still in the latents is taken off with the
    last noise estimate, for which the authors' program calls the model once more.
    """

    needs_noise = False

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        known = -np.log(schedule.sigmas.astype(np.float64))
        self._calls = plan(max(float(known[-1]), LOWEST), float(known[0]), steps)
        places = np.interp([call.here for call in self._calls], known[::-1], np.arange(len(known))[::-1])
        places[0] = len(known) - 1
        self.timesteps = places.astype(np.float32)
        self._prediction_type = schedule.prediction_type
        self._begin: Array = np.empty(0)
        self._first: Array = np.empty(0)

    def start(self, noise: Array) -> Array:
        """The noise itself."""
        return noise

    def model_input(self, latents: Array, index: int) -> Array:
        """The latents themselves."""
        return latents

    def step(self, latents: Array, prediction: Array, index: int, noise: Optional[Array] = None) -> Array:
        """To where the next call is made: within the interval, or to its end."""
        call = self._calls[index]
        alpha, sigma = alpha_sigma(call.here)
        exact = latents.astype(np.float64)
        eps = prediction if self._prediction_type == "epsilon" else alpha * prediction + sigma * exact
        if call.stage == 0:
            self._begin, self._first = exact, eps
        width = call.there - call.begin
        growth = math.expm1(width)
        change = growth * self._first
        if call.stage > 0:
            bend = growth if call.order == 2 else (growth / width - 1.0) * THIRD_ORDER[call.stage]
            change = change + bend * (eps - self._first)
        alpha, sigma = alpha_sigma(call.there)
        moved = alpha / alpha_sigma(call.begin)[0] * self._begin - sigma * change
        if index == len(self._calls) - 1:
            moved = (moved - sigma * eps) / alpha
        return np.asarray(moved, dtype=np.float32)
