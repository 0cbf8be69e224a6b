from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu_inference.engine import noise
from gpu_inference.engine.errors import BadRequest
from gpu_inference.engine.samplers import SAMPLERS, create_sampler
from gpu_inference.engine.samplers.euler_ancestral import ancestral_split
from gpu_inference.engine.schedule import NoiseSchedule
from tests.support.schedules import schedule_settings

SHAPE = (1, 4, 8, 8)


def oracle(prediction_type: str, shown: Any, clean: Any, alpha: float) -> Any:
    """What a model that knows the clean latents would predict from ``shown = a * clean + s * eps``."""
    sigma = (1 - alpha) ** 0.5
    eps = (shown - alpha**0.5 * clean) / sigma
    return (eps if prediction_type == "epsilon" else alpha**0.5 * eps - sigma * clean).astype(np.float32)


@pytest.mark.parametrize("steps", [1, 3, 20])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_perfect_model_is_followed_to_the_clean_latents(name: str, prediction_type: str, spacing: str, steps: int) -> None:
    schedule = NoiseSchedule(schedule_settings(prediction_type=prediction_type, timestep_spacing=spacing))
    sampler = create_sampler(name, schedule, steps)
    clean = noise.normal(9, 0, SHAPE)
    latents = sampler.start(noise.normal(1, 0, SHAPE))
    for index, timestep in enumerate(sampler.timesteps):
        shown = sampler.model_input(latents, index)
        prediction = oracle(prediction_type, shown, clean, float(schedule.alphas_cumprod[int(timestep)]))
        latents = sampler.step(latents, prediction, index, noise.normal(1, index + 1, SHAPE))
        assert latents.dtype == np.float32
    np.testing.assert_allclose(latents, clean, atol=2e-3)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_zero_terminal_snr_stays_finite(name: str) -> None:
    sampler = create_sampler(name, NoiseSchedule(schedule_settings(zero_terminal_snr=True)), 20)
    latents = sampler.start(noise.normal(1, 0, SHAPE))
    for index in range(20):
        shown = sampler.model_input(latents, index)
        assert float(np.abs(shown).max()) < 10
        latents = sampler.step(latents, np.tanh(shown), index, noise.normal(1, index + 1, SHAPE))
    assert np.isfinite(latents).all()
    assert float(np.abs(latents).max()) < 20


def test_the_ancestral_split_keeps_the_variance() -> None:
    down, up = ancestral_split(np.float32(14.6), np.float32(7.1))
    assert down**2 + up**2 == pytest.approx(7.1**2, rel=1e-5)
    assert 0 < down < 7.1


def test_the_second_order_solver_is_nearer_than_the_first() -> None:
    """On the ODE of Gaussian data of deviation 0.5, whose solution is known."""
    schedule = NoiseSchedule(schedule_settings(prediction_type="epsilon"))
    errors = {}
    for name in ("euler", "dpm++_2m"):
        sampler = create_sampler(name, schedule, 25)
        start = noise.normal(4, 0, SHAPE)
        latents = sampler.start(start)
        for index, timestep in enumerate(sampler.timesteps):
            alpha = float(schedule.alphas_cumprod[int(timestep)])
            shown = sampler.model_input(latents, index)
            variance = alpha * 0.25 + (1 - alpha)
            latents = sampler.step(latents, shown * ((1 - alpha) ** 0.5 / variance), index)
        first = float(schedule.sigmas[-1])
        start_scale = first if name == "euler" else (first**2 + 1) ** 0.5
        exact = start * start_scale * 0.5 / (0.25 + first**2) ** 0.5
        errors[name] = float(np.abs(latents - exact).max())
    assert errors["dpm++_2m"] < errors["euler"] * 0.7


def test_an_ancestral_step_needs_noise() -> None:
    sampler = create_sampler("euler_a", NoiseSchedule(schedule_settings()), 2)
    latents = sampler.start(noise.normal(1, 0, SHAPE))
    with pytest.raises(ValueError, match="needs noise"):
        sampler.step(latents, latents, 0)


def test_an_unknown_sampler_says_what_there_is() -> None:
    with pytest.raises(BadRequest, match=r"'ddim' is not known; there are: euler, euler_a, dpm\+\+_2m"):
        create_sampler("ddim", NoiseSchedule(schedule_settings()), 2)
