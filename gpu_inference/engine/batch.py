"""The pictures of a batch in the making: what is asked of each, how far it is, and which of them may be made together."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from gpu_inference.engine import conditioning, noise
from gpu_inference.engine.errors import Cancelled, EngineError
from gpu_inference.engine.manifest import Manifest
from gpu_inference.engine.preview import Previewer
from gpu_inference.engine.request import RenderRequest
from gpu_inference.engine.samplers import create_sampler
from gpu_inference.engine.schedule import NoiseSchedule
from gpu_inference.engine.sizes import plan_size
from gpu_inference.engine.tokenizer import Tokenizer

Array = npt.NDArray[Any]
Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps, phase); the phases are ``encoding``, ``denoising``, ``decoding``, ``saving``."""

MOST_PICTURES, USUAL_PICTURES = 8, 4
"""At once, on a GPU; on a CPU several take as long as one after the other, and more memory."""

Kind = Tuple[int, int, int, str, bool]
"""Native width and height, steps, sampler, and whether guided: pictures of one kind are made together."""


def ignore(_step: int, _steps: int, _phase: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Part:
    """What is asked of one picture of a batch. ``cancelled`` is asked before every call of the model and every phase."""

    request: RenderRequest
    progress: Progress = ignore
    cancelled: Callable[[], bool] = lambda: False
    preview: Optional[Previewer] = None


class Row:
    """One picture: row ``number`` of what was asked for. Its noise, sampler and guidance are its own, whatever is made beside it."""

    def __init__(self, number: int, part: Part, manifest: Manifest, tokenizer: Tokenizer) -> None:
        """Raises :class:`Cancelled`."""
        self.number = number
        self.request, self._part, self._manifest = part.request, part, manifest
        if self.request.steps_default and manifest.default_steps is not None:
            self.request = replace(self.request, steps=manifest.default_steps)
        self.check()
        self.tell(0, "encoding")
        self.plan = plan_size(self.request.width, self.request.height, manifest.size_buckets)
        self.asked = manifest.default_guidance if self.request.guidance_scale is None else self.request.guidance_scale
        self.guidance = min(self.asked, manifest.guidance_limit)
        self.inputs, self.dropped, self.unknown = conditioning.build(
            manifest, tokenizer, self.request.prompt, self.request.negative_prompt, self.guidance, self.plan
        )
        self.warnings: List[str] = []
        self.begun, self.beside, self.most = 0.0, 1, MOST_PICTURES

    @property
    def kind(self) -> Kind:
        """What it must have in common with those made beside it."""
        plan, request = self.plan, self.request
        return plan.native_width, plan.native_height, request.steps, request.sampler, self.inputs.negative is not None

    def tell(self, step: int, phase: str) -> None:
        """Tells how far it is."""
        self._part.progress(step, self.request.steps, phase)

    def check(self, step: int = 0) -> None:
        """Raises :class:`Cancelled` where nobody wants it any more."""
        if self._part.cancelled():
            raise Cancelled(f"The job was cancelled after {step} of {self.request.steps} steps.")

    def begin(self, schedule: NoiseSchedule, beside: int) -> None:
        """To its first noise, as one of ``beside`` pictures."""
        self.begun, self.beside = time.perf_counter(), beside
        factor = self._manifest.vae_scale_factor
        self._schedule = schedule
        self._shape = (1, self._manifest.latent_channels, self.plan.native_height // factor, self.plan.native_width // factor)
        self._sampler = create_sampler(self.request.sampler, schedule, self.request.steps)
        self.latents: Array = self._sampler.start(noise.normal(self.request.seed, 0, self._shape))

    @property
    def timesteps(self) -> Array:
        """The moments at which the model is called; a step may be several of them."""
        return self._sampler.timesteps

    def steps_after(self, calls: int) -> int:
        """The steps done after so many calls of the model."""
        return calls * self.request.steps // len(self.timesteps)

    def shown(self, index: int) -> Array:
        """What the model is shown at a call."""
        return self._sampler.model_input(self.latents, index)

    def take(self, index: int, shown: Array, prediction: Array) -> None:
        """Goes on with what the model said."""
        step, preview = self.steps_after(index + 1), self._part.preview
        if preview is not None and step < self.request.steps and preview.due(step):
            estimate = self._schedule.clean(shown, prediction, float(self.timesteps[index]))
            preview.show(step, estimate[0], self._manifest.preview_factors)
        fresh = noise.normal(self.request.seed, index + 1, self._shape) if self._sampler.needs_noise else None
        self.latents = self._sampler.step(self.latents, prediction, index, fresh)


Ended = Iterator[Tuple[Row, EngineError]]


def let_go(rows: List[Row], step: int = 0) -> Ended:
    """Takes those that are cancelled out of ``rows``, and yields them."""
    for row in list(rows):
        try:
            row.check(step)
        except Cancelled as error:
            rows.remove(row)
            yield row, error


class Limits:
    """How many pictures of a size go together: ``most``, and fewer where more were tried and failed."""

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._learnt: Dict[Tuple[int, int], int] = {}

    def of(self, kind: Kind) -> int:
        """For pictures of this kind."""
        return self._learnt.get(kind[:2], self._most)

    def learn(self, kind: Kind, number: int) -> None:
        """No more than so many went."""
        self._learnt[kind[:2]] = min(self.of(kind), number)


def joined(values: Sequence[Array]) -> Array:
    """The rows' arrays as one."""
    return np.concatenate([np.asarray(each, dtype=np.float32) for each in values])
