"""The schedule part of a manifest, for tests that need no model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def schedule_settings(**changes: Any) -> Any:
    """Stable Diffusion's schedule with ``changes``."""
    values = {
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "steps_offset": 0,
        "train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "zero_terminal_snr": False,
    }
    return SimpleNamespace(**{**values, **changes})
