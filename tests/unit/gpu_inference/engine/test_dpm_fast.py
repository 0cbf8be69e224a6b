"""DPM-Solver-fast beside the paper: its update formulas written out for one number, and its order on a known ODE.

Lu et al. 2022, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from gpu_inference.engine.samplers import create_sampler
from gpu_inference.engine.samplers.dpm_fast import orders
from gpu_inference.engine.schedule import NoiseSchedule
from tests.support.schedules import schedule_settings

Eps = Callable[[float, float], float]


def alpha(lam: float) -> float:
    return math.sqrt(1 / (1 + math.exp(-2 * lam)))


def sigma(lam: float) -> float:
    return math.sqrt(1 / (1 + math.exp(2 * lam)))


def solver_1(eps: Eps, x: float, s: float, t: float) -> float:
    """Equation 3.7."""
    return alpha(t) / alpha(s) * x - sigma(t) * (math.exp(t - s) - 1) * eps(x, s)


def solver_2(eps: Eps, x: float, s: float, t: float) -> float:
    """Algorithm 4, r1 = 1/2."""
    h, r1 = t - s, 0.5
    s1 = s + r1 * h
    u = alpha(s1) / alpha(s) * x - sigma(s1) * (math.exp(r1 * h) - 1) * eps(x, s)
    return (
        alpha(t) / alpha(s) * x
        - sigma(t) * (math.exp(h) - 1) * eps(x, s)
        - sigma(t) / (2 * r1) * (math.exp(h) - 1) * (eps(u, s1) - eps(x, s))
    )


def solver_3(eps: Eps, x: float, s: float, t: float) -> float:
    """Algorithm 2, r1 = 1/3 and r2 = 2/3."""
    h, r1, r2 = t - s, 1 / 3, 2 / 3
    s1, s2 = s + r1 * h, s + r2 * h
    u1 = alpha(s1) / alpha(s) * x - sigma(s1) * (math.exp(r1 * h) - 1) * eps(x, s)
    d1 = eps(u1, s1) - eps(x, s)
    u2 = (
        alpha(s2) / alpha(s) * x
        - sigma(s2) * (math.exp(r2 * h) - 1) * eps(x, s)
        - sigma(s2) * r2 / r1 * ((math.exp(r2 * h) - 1) / (r2 * h) - 1) * d1
    )
    d2 = eps(u2, s2) - eps(x, s)
    return alpha(t) / alpha(s) * x - sigma(t) * (math.exp(h) - 1) * eps(x, s) - sigma(t) / r2 * ((math.exp(h) - 1) / h - 1) * d2


def fast(eps: Eps, x: float, first: float, last: float, calls: int) -> float:
    """Section 3.4: K = floor(NFE / 3) + 1 even intervals of lambda, K - 2 or K - 1 of them of the third order."""
    count = calls // 3 + 1
    edges = [first + (last - first) * i / count for i in range(count + 1)]
    if calls % 3 == 0:
        chosen = [solver_3] * (count - 2) + [solver_2, solver_1]
    elif calls % 3 == 1:
        chosen = [solver_3] * (count - 1) + [solver_1]
    else:
        chosen = [solver_3] * (count - 1) + [solver_2]
    for solver, s, t in zip(chosen, edges[:-1], edges[1:], strict=True):
        x = solver(eps, x, s, t)
    return x


def lambdas(schedule: NoiseSchedule) -> np.ndarray:
    return -np.log(schedule.sigmas.astype(np.float64))


def run(schedule: NoiseSchedule, eps: Eps, x: float, calls: int) -> float:
    """Our sampler on the number ``x``, up to where the noise that is left is taken off."""
    sampler = create_sampler("dpm_fast", schedule, calls)
    latents, last = np.full((1, 1, 1, 1), x, dtype=np.float32), 0.0
    known = lambdas(schedule)
    for index, timestep in enumerate(sampler.timesteps):
        shown = sampler.model_input(latents, index).item()
        lam = float(np.interp(timestep, np.arange(len(known)), known))
        last = eps(shown, lam)
        said = last if schedule.prediction_type == "epsilon" else (last - sigma(lam) * shown) / alpha(lam)
        latents = sampler.step(latents, np.full_like(latents, said), index)
    end = float(known[0])
    return latents.item() * alpha(end) + sigma(end) * last


@pytest.mark.parametrize("calls", range(1, 31))
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_every_number_of_calls_equals_the_papers_formulas(prediction_type: str, calls: int) -> None:
    schedule = NoiseSchedule(schedule_settings(prediction_type=prediction_type))
    known = lambdas(schedule)

    def eps(x: float, lam: float) -> float:
        return math.tanh(0.8 * x + 0.3 * math.sin(lam)) + 0.1 * lam / 4

    expected = fast(eps, 0.7, float(known[-1]), float(known[0]), calls)
    assert run(schedule, eps, 0.7, calls) == pytest.approx(expected, rel=2e-4, abs=2e-4)


def test_it_is_of_the_third_order() -> None:
    """Gaussian data of deviation 0.5: the ODE scales by the deviation. Eight times nearer with half the width."""
    schedule = NoiseSchedule(schedule_settings(prediction_type="epsilon"))
    known = lambdas(schedule)

    def deviation(lam: float) -> float:
        return math.sqrt(0.25 * alpha(lam) ** 2 + sigma(lam) ** 2)

    def eps(x: float, lam: float) -> float:
        return x * sigma(lam) / deviation(lam) ** 2

    exact = 1.3 * deviation(float(known[0])) / deviation(float(known[-1]))
    errors = [abs(run(schedule, eps, 1.3, calls) - exact) for calls in (14, 29, 59)]
    assert errors[0] < 1e-2
    assert errors[0] / errors[1] > 5.5
    assert errors[1] / errors[2] > 5.5


@pytest.mark.parametrize("calls", range(1, 151))
def test_the_orders_add_up_to_the_calls(calls: int) -> None:
    chosen = orders(calls)
    assert sum(chosen) == calls
    assert len(chosen) == calls // 3 + 1
    assert chosen == sorted(chosen, reverse=True)
