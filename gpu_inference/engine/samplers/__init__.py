"""Samplers by name. Each is NumPy on the host and belongs to one picture."""

from __future__ import annotations

from typing import Callable, Dict

from gpu_inference.engine.errors import BadRequest
from gpu_inference.engine.samplers.base import Sampler
from gpu_inference.engine.samplers.ddim import DDIM
from gpu_inference.engine.samplers.dpm_fast import DPMFast
from gpu_inference.engine.samplers.dpmpp_2m import DPMPP2M
from gpu_inference.engine.samplers.dpmpp_2m_karras import DPMPP2MKarras
from gpu_inference.engine.samplers.euler import Euler
from gpu_inference.engine.samplers.euler_ancestral import EulerAncestral
from gpu_inference.engine.samplers.heun import Heun
from gpu_inference.engine.samplers.lms import LMS
from gpu_inference.engine.schedule import NoiseSchedule

SAMPLERS: Dict[str, Callable[[NoiseSchedule, int], Sampler]] = {
    "euler": Euler,
    "euler_a": EulerAncestral,
    "dpm++_2m": DPMPP2M,
    "dpm++_2m_karras": DPMPP2MKarras,
    "ddim": DDIM,
    "lms": LMS,
    "heun": Heun,
    "dpm_fast": DPMFast,
}
DEFAULT_SAMPLER = "euler"


def check_sampler(name: str) -> str:
    """``name``, where there is such a sampler. Raises :class:`BadRequest` with those there are."""
    if name not in SAMPLERS:
        raise BadRequest("The scheduler '{:.60}' is not known; there are: {}.".format(name, ", ".join(SAMPLERS)))
    return name


def create_sampler(name: str, schedule: NoiseSchedule, steps: int) -> Sampler:
    """A fresh sampler for one picture of ``steps`` steps. Raises as :func:`check_sampler`."""
    return SAMPLERS[check_sampler(name)](schedule, steps)
