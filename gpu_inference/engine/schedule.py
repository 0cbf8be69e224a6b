"""The noise schedule a model was trained with, and the timesteps and sigmas picked from it.

Sigmas are those of the variance-exploding form, ``sqrt((1 - a) / a)`` with ``a`` the cumulative product of alphas
(Karras et al. 2022). Zero terminal SNR and the spacings are those of Lin et al. 2023, algorithm 1 and table 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.manifest import Manifest

Array = npt.NDArray[Any]

TERMINAL_ALPHA = 2.0**-24
"""Stands for a terminal SNR of zero, whose sigma would be infinite; float16's smallest subnormal, as is usual."""


def _ramp(start: float, end: float, count: int) -> Array:
    """``count`` float32 values from ``start`` to ``end``, rounded as torch's ``linspace`` rounds: from both ends."""
    low, high = np.float32(start), np.float32(end)
    stride = float((high - low) / np.float32(count - 1))
    index = np.arange(count, dtype=np.float64)
    values = np.where(index < count // 2, float(low) + stride * index, float(high) - stride * (count - 1 - index))
    return values.astype(np.float32)


def make_betas(schedule: str, start: float, end: float, count: int) -> Array:
    """Float32 betas ``[count]``: ``linear``, or ``scaled_linear`` (linear in the square root)."""
    if schedule == "linear":
        return _ramp(start, end, count)
    if schedule == "scaled_linear":
        return np.asarray(_ramp(start**0.5, end**0.5, count) ** 2)
    raise ValueError(f"The beta schedule '{schedule}' is not known; there are: linear, scaled_linear.")


def _cumulative(alphas: Array) -> Array:
    return np.cumprod(alphas.astype(np.float64)).astype(np.float32)


def rescale_zero_terminal_snr(betas: Array) -> Array:
    """Betas whose last cumulative alpha is zero and whose first is unchanged (Lin et al. 2023, algorithm 1)."""
    root = np.sqrt(_cumulative(np.float32(1) - betas))
    first, last = root[0], root[-1]
    rescaled = ((root - last) * (first / (first - last))) ** 2
    alphas = np.concatenate([rescaled[:1], rescaled[1:] / rescaled[:-1]])
    return np.float32(1) - alphas.astype(np.float32)


class NoiseSchedule:
    """A model's training schedule: cumulative alphas and sigmas, float32 ``[train_timesteps]``."""

    def __init__(self, manifest: Manifest) -> None:
        self.prediction_type = manifest.prediction_type
        self.spacing = manifest.timestep_spacing
        self.steps_offset = manifest.steps_offset
        self.train_timesteps = manifest.train_timesteps
        self.zero_terminal_snr = manifest.zero_terminal_snr
        betas = make_betas(manifest.beta_schedule, manifest.beta_start, manifest.beta_end, manifest.train_timesteps)
        if manifest.zero_terminal_snr:
            betas = rescale_zero_terminal_snr(betas)
        self.alphas_cumprod = _cumulative(np.float32(1) - betas)
        if manifest.zero_terminal_snr:
            self.alphas_cumprod[-1] = TERMINAL_ALPHA
        self.sigmas = np.sqrt((np.float32(1) - self.alphas_cumprod) / self.alphas_cumprod)

    def timesteps(self, steps: int, divisions: int) -> Array:
        """Float32 timesteps ``[steps]``, falling.

        ``leading`` takes every ``train_timesteps // divisions``-th from the low end; solvers differ in whether they
        divide by ``steps`` or ``steps + 1``. ``trailing`` always starts at the last timestep.
        """
        total = self.train_timesteps
        if self.spacing == "leading":
            stride = total // divisions
            chosen = np.arange(divisions)[::-1][:steps] * stride + self.steps_offset
            return np.minimum(chosen, total - 1).astype(np.float32)
        return (np.arange(total, 0, -total / steps)[:steps].round() - 1).astype(np.float32)

    def clean(self, shown: Array, prediction: Array, timestep: float) -> Array:
        """What the model takes the picture to be, from what it was shown at a timestep and what it said."""
        alpha = np.float32(np.interp(timestep, np.arange(self.train_timesteps), self.alphas_cumprod.astype(np.float64)))
        signal, noise = np.sqrt(alpha), np.sqrt(np.float32(1) - alpha)
        if self.prediction_type == "epsilon":
            return np.asarray((shown - noise * prediction) / signal)
        return np.asarray(signal * shown - noise * prediction)

    def sigmas_at(self, timesteps: Array) -> Array:
        """Float32 sigmas ``[len(timesteps) + 1]``, the last of them zero."""
        sigmas = np.interp(timesteps, np.arange(self.train_timesteps), self.sigmas.astype(np.float64))
        return np.append(sigmas, 0.0).astype(np.float32)
