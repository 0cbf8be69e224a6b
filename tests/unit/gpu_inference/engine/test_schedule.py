from __future__ import annotations

import numpy as np
import pytest

from gpu_inference.engine.schedule import TERMINAL_ALPHA, NoiseSchedule, make_betas, rescale_zero_terminal_snr
from tests.support.schedules import schedule_settings


def test_betas_run_from_start_to_end() -> None:
    for schedule in ("linear", "scaled_linear"):
        betas = make_betas(schedule, 0.00085, 0.012, 1000)
        assert betas.dtype == np.float32
        assert betas[[0, -1]] == pytest.approx([0.00085, 0.012], rel=1e-5)
        assert (np.diff(betas) > 0).all()


def test_an_unknown_schedule_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="'cosine' is not known; there are: linear, scaled_linear"):
        make_betas("cosine", 0.1, 0.2, 10)


def test_the_known_sigmas_of_stable_diffusion() -> None:
    """The largest and smallest sigma of this schedule are quoted everywhere as 14.6146 and 0.0292."""
    sigmas = NoiseSchedule(schedule_settings()).sigmas
    assert sigmas[-1] == pytest.approx(14.6146, abs=1e-3)
    assert sigmas[0] == pytest.approx(0.0292, abs=1e-4)


def test_zero_terminal_snr() -> None:
    betas = make_betas("scaled_linear", 0.00085, 0.012, 1000)
    rescaled = rescale_zero_terminal_snr(betas)
    assert rescaled[-1] == 1.0
    assert rescaled[0] == pytest.approx(betas[0], rel=1e-3)
    schedule = NoiseSchedule(schedule_settings(zero_terminal_snr=True))
    assert schedule.alphas_cumprod[-1] == TERMINAL_ALPHA
    assert schedule.sigmas[-1] == pytest.approx(4096, rel=1e-3)
    assert np.isfinite(schedule.sigmas).all()


@pytest.mark.parametrize("steps", [*range(1, 151), 1000])
def test_trailing_starts_at_the_last_timestep(steps: int) -> None:
    timesteps = NoiseSchedule(schedule_settings()).timesteps(steps, steps)
    assert len(timesteps) == steps
    assert timesteps[0] == 999
    assert timesteps[-1] >= 0
    assert (np.diff(timesteps) < 0).all()


@pytest.mark.parametrize("steps", [1, 2, 20, 150])
def test_leading_ends_at_the_offset(steps: int) -> None:
    timesteps = NoiseSchedule(schedule_settings(timestep_spacing="leading", steps_offset=1)).timesteps(steps, steps)
    assert len(timesteps) == steps
    assert timesteps[-1] == 1


def test_sigmas_end_at_zero() -> None:
    schedule = NoiseSchedule(schedule_settings())
    sigmas = schedule.sigmas_at(schedule.timesteps(5, 5))
    assert sigmas.shape == (6,)
    assert sigmas[-1] == 0
    assert (np.diff(sigmas) < 0).all()
