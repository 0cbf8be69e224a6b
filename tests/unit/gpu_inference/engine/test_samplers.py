from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu_inference.engine import noise
from gpu_inference.engine.errors import BadRequest
from gpu_inference.engine.samplers import SAMPLERS, create_sampler
from gpu_inference.engine.samplers.euler_ancestral import ancestral_split
from gpu_inference.engine.samplers.lms import multistep_weights
from gpu_inference.engine.schedule import NoiseSchedule
from tests.support.schedules import schedule_settings

SHAPE = (1, 4, 8, 8)


def oracle(prediction_type: str, shown: Any, clean: Any, alpha: float) -> Any:
    """What a model that knows the clean latents would predict from ``shown = a * clean + s * eps``."""
    sigma = (1 - alpha) ** 0.5
    eps = (shown - alpha**0.5 * clean) / sigma
    return (eps if prediction_type == "epsilon" else alpha**0.5 * eps - sigma * clean).astype(np.float32)


def alpha_at(schedule: NoiseSchedule, timestep: float) -> float:
    """The cumulative alpha at a timestep, which may lie between whole ones."""
    sigma = np.exp(np.interp(timestep, np.arange(schedule.train_timesteps), np.log(schedule.sigmas.astype(np.float64))))
    return float(1 / (1 + sigma**2))


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
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
        prediction = oracle(prediction_type, shown, clean, alpha_at(schedule, timestep))
        latents = sampler.step(latents, prediction, index, noise.normal(1, index + 1, SHAPE))
        assert latents.dtype == np.float32
    np.testing.assert_allclose(latents, clean, atol=2e-3)


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_zero_terminal_snr_stays_finite(name: str, steps: int) -> None:
    sampler = create_sampler(name, NoiseSchedule(schedule_settings(zero_terminal_snr=True)), steps)
    latents = sampler.start(noise.normal(1, 0, SHAPE))
    for index in range(len(sampler.timesteps)):
        shown = sampler.model_input(latents, index)
        assert float(np.abs(shown).max()) < 10
        latents = sampler.step(latents, np.tanh(shown), index, noise.normal(1, index + 1, SHAPE))
    assert np.isfinite(latents).all()
    assert float(np.abs(latents).max()) < (20 if steps == 20 else 1000)


@pytest.mark.parametrize("steps", range(1, 151))
def test_how_often_each_calls_the_model(steps: int) -> None:
    schedule = NoiseSchedule(schedule_settings(zero_terminal_snr=True))
    calls = {name: len(create_sampler(name, schedule, steps).timesteps) for name in SAMPLERS}
    assert calls.pop("heun") == 2 * steps - 1
    assert set(calls.values()) == {steps}
    for name in SAMPLERS:
        timesteps = create_sampler(name, schedule, steps).timesteps
        assert timesteps[0] == 999
        assert (np.diff(timesteps) <= 0).all()


def test_the_ancestral_split_keeps_the_variance() -> None:
    down, up = ancestral_split(np.float32(14.6), np.float32(7.1))
    assert down**2 + up**2 == pytest.approx(7.1**2, rel=1e-5)
    assert 0 < down < 7.1


HIGHER_ORDERS = ("dpm++_2m", "dpm++_2m_karras", "lms", "heun", "dpm_fast")


def test_solvers_of_higher_order_are_nearer_than_those_of_the_first() -> None:
    """On the ODE of Gaussian data of deviation 0.5, whose solution is known."""
    schedule = NoiseSchedule(schedule_settings(prediction_type="epsilon"))
    errors = {}
    for name in ("euler", *HIGHER_ORDERS):
        sampler = create_sampler(name, schedule, 25)
        start = noise.normal(4, 0, SHAPE)
        latents = sampler.start(start)
        for index, timestep in enumerate(sampler.timesteps):
            alpha = alpha_at(schedule, timestep)
            shown = sampler.model_input(latents, index)
            variance = alpha * 0.25 + (1 - alpha)
            latents = sampler.step(latents, shown * ((1 - alpha) ** 0.5 / variance), index)
        first = float(schedule.sigmas[-1])
        start_scale = first if name in ("euler", "lms", "heun") else (first**2 + 1) ** 0.5
        exact = start * start_scale * 0.5 / (0.25 + first**2) ** 0.5
        errors[name] = float(np.abs(latents - exact).max())
    assert all(errors[name] < errors["euler"] * 0.7 for name in HIGHER_ORDERS), errors


def test_the_weights_of_a_multistep_step() -> None:
    """Adams and Bashforth's on an even grid; on any grid, exact for a cubic."""
    assert multistep_weights([0.0], 1.0) == pytest.approx([1.0])
    assert multistep_weights([0.0, -1.0], 1.0) == pytest.approx([3 / 2, -1 / 2])
    assert multistep_weights([0.0, -1.0, -2.0, -3.0], 1.0) == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24])
    nodes, end = [7.1, 9.3, 14.6, 4096.0], 5.5
    weights = multistep_weights(nodes, end)
    assert sum(weight * (node - 8) ** 3 for weight, node in zip(weights, nodes, strict=True)) == pytest.approx(
        ((end - 8) ** 4 - (nodes[0] - 8) ** 4) / 4
    )


def test_the_first_correction_of_heun_from_zero_snr() -> None:
    """``y = x / sigma`` goes from noise to ``y + u * (mean clean estimate)``, ``u`` the change of ``1 / sigma``."""
    schedule = NoiseSchedule(schedule_settings(zero_terminal_snr=True))
    sampler = create_sampler("heun", schedule, 20)
    begin, first, second = (noise.normal(seed, 0, SHAPE) for seed in (1, 2, 3))
    sigma = float(schedule.sigmas[949])
    latents = sampler.start(begin)
    guess = sampler.step(latents, -first, 0)
    clean = guess / (sigma**2 + 1) - second * sigma / (sigma**2 + 1) ** 0.5
    done = sampler.step(guess, second, 1)
    np.testing.assert_allclose(done, sigma * (begin + (first + clean) / 2 * (1 / sigma - 1 / 4096)), rtol=1e-3, atol=2e-2)


def test_ddim_from_zero_snr_takes_the_first_estimate_for_what_the_model_says() -> None:
    schedule = NoiseSchedule(schedule_settings(zero_terminal_snr=True))
    velocity = noise.normal(2, 0, SHAPE)
    sampler = create_sampler("ddim", schedule, 1)
    np.testing.assert_array_equal(sampler.step(sampler.start(noise.normal(1, 0, SHAPE)), velocity, 0), -velocity)


def test_an_ancestral_step_needs_noise() -> None:
    sampler = create_sampler("euler_a", NoiseSchedule(schedule_settings()), 2)
    latents = sampler.start(noise.normal(1, 0, SHAPE))
    with pytest.raises(ValueError, match="needs noise"):
        sampler.step(latents, latents, 0)


def test_an_unknown_sampler_says_what_there_is() -> None:
    with pytest.raises(BadRequest, match=r"'plms' is not known; there are: euler, euler_a, dpm\+\+_2m, .*, dpm_fast\."):
        create_sampler("plms", NoiseSchedule(schedule_settings()), 2)
