"""Our samplers beside diffusers' schedulers, on the same noise and predictions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gpu_inference.engine.samplers import create_sampler
from gpu_inference.engine.schedule import NoiseSchedule
from tests.support.schedules import schedule_settings

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4
STEPS = (1, 2, 5, 20, 50)
SAMPLERS = ("euler", "euler_a", "dpm++_2m", "dpm++_2m_karras", "ddim", "lms", "heun")
CLASSES = {
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "dpm++_2m": "DPMSolverMultistepScheduler",
    "dpm++_2m_karras": "DPMSolverMultistepScheduler",
    "ddim": "DDIMScheduler",
    "lms": "LMSDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "dpm++_2m": {"algorithm_type": "dpmsolver++", "solver_order": 2},
    "dpm++_2m_karras": {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    "ddim": {"clip_sample": False, "set_alpha_to_one": True},
}
SHAPE = (1, 4, 16, 16)


def settings(prediction_type: str, spacing: str, zero_snr: bool, schedule: str = "scaled_linear") -> Any:
    return schedule_settings(
        prediction_type=prediction_type,
        timestep_spacing=spacing,
        steps_offset=1 if spacing == "leading" else 0,
        beta_schedule=schedule,
        zero_terminal_snr=zero_snr,
    )


def theirs(diffusers: Any, sampler: str, config: Any) -> Any:
    common = {
        "num_train_timesteps": config.train_timesteps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "prediction_type": config.prediction_type,
        "timestep_spacing": config.timestep_spacing,
        "steps_offset": config.steps_offset,
    }
    if sampler not in ("lms", "heun"):
        common["rescale_betas_zero_snr"] = config.zero_terminal_snr
    scheduler = getattr(diffusers, CLASSES[sampler])(**common, **OPTIONS.get(sampler, {}))
    if sampler in ("lms", "heun") and config.zero_terminal_snr:
        # These know no terminal SNR of zero; they are given a schedule that ends at its stand-in.
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.new_tensor(NoiseSchedule(config).alphas_cumprod)
    return scheduler


def close(ours: Any, other: Any, lost: float = 0.0) -> None:
    """Within 1e-4, absolute up to magnitude 1 and relative to the largest value above it (sigmas reach 4096).

    ``lost`` is what float32 cannot hold on the way there.
    """
    other = np.asarray(other, dtype=np.float32)
    scale = max(1.0, float(np.abs(other).max()))
    worst = float(np.abs(np.asarray(ours) - other).max())
    assert np.isfinite(worst)
    assert worst <= TOLERANCE * scale + lost, f"differs by {worst / scale:.2e} of {scale:.1f}"


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("sampler", "prediction_type", "spacing", "zero_snr"),
    list(itertools.product(SAMPLERS, ("epsilon", "v_prediction"), ("trailing", "leading"), (False, True))),
)
def test_every_state_equals_diffusers(
    libraries: Any, monkeypatch: pytest.MonkeyPatch, sampler: str, prediction_type: str, spacing: str, zero_snr: bool, steps: int
) -> None:
    torch, diffusers = libraries
    if sampler == "ddim" and prediction_type == "epsilon" and zero_snr and spacing == "trailing":
        pytest.skip("divides by an alpha of zero there; ours has its stand-in")
    config = settings(prediction_type, spacing, zero_snr)
    scheduler = theirs(diffusers, sampler, config)
    scheduler.set_timesteps(steps)
    if sampler == "dpm++_2m_karras":
        scheduler.set_begin_index(0)  # else it skips the first of two equal timesteps
    own = create_sampler(sampler, NoiseSchedule(config), steps)
    np.testing.assert_array_equal(own.timesteps, scheduler.timesteps.numpy().astype(np.float32))

    rng = np.random.default_rng(steps)
    noises = rng.standard_normal((steps + 1, *SHAPE)).astype(np.float32)
    if sampler == "euler_a":
        import diffusers.schedulers.scheduling_euler_ancestral_discrete as module

        drawn = iter(noises[1:])
        monkeypatch.setattr(module, "randn_tensor", lambda *_args, **_kwargs: torch.from_numpy(next(drawn)))

    latents = own.start(noises[0])
    other = torch.from_numpy(noises[0]) * scheduler.init_noise_sigma
    close(latents, other)
    lost = 0.0
    for index, timestep in enumerate(scheduler.timesteps):
        shown = own.model_input(latents, index)
        close(shown, scheduler.scale_model_input(other, timestep), lost)
        # A prediction that follows the input, as a model's does, so that errors would add up.
        prediction = np.tanh(shown * 0.7 + rng.standard_normal(SHAPE).astype(np.float32) * 0.5).astype(np.float32)
        # A step from sigma 4096 to 1 subtracts numbers of 10,000 and leaves one of 4: both are off by a unit in the last place of the
        # former, in a direction that depends on whether the processor's kernels fuse multiplying and adding.
        lost += float(np.spacing(np.abs(latents).max()))
        latents = own.step(latents, prediction, index, noises[index + 1] if own.needs_noise else None)
        other = scheduler.step(torch.from_numpy(prediction), timestep, other, return_dict=False)[0]
        assert latents.dtype == np.float32
        if sampler == "heun" and zero_snr and spacing == "trailing" and index == 1:
            # Ours corrects its first step in 1 / sigma; tests/unit says how. From here on they are alike again.
            other = torch.from_numpy(latents)
            continue
        close(latents, other, lost)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_timesteps_equal_diffusers_for_every_step_count(libraries: Any, sampler: str, spacing: str) -> None:
    _, diffusers = libraries
    config = settings("v_prediction", spacing, True)
    scheduler = theirs(diffusers, sampler, config)
    for steps in range(1, 151):
        scheduler.set_timesteps(steps)
        # Rounding gives diffusers one timestep too many, below the first, for 61 steps and a few other counts.
        expected = scheduler.timesteps.numpy().astype(np.float32)[: 2 * steps - 1 if sampler == "heun" else steps]
        np.testing.assert_array_equal(create_sampler(sampler, NoiseSchedule(config), steps).timesteps, expected)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_training_sigmas_equal_diffusers(libraries: Any, schedule: str, zero_snr: bool) -> None:
    _, diffusers = libraries
    config = settings("epsilon", "trailing", zero_snr, schedule)
    scheduler = theirs(diffusers, "euler", config)
    np.testing.assert_allclose(NoiseSchedule(config).alphas_cumprod, scheduler.alphas_cumprod.numpy(), rtol=1e-4, atol=0)
