"""From a request to a PNG: tokens, conditioning, steps, decoding, scaling, metadata."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from gpu_inference import __version__
from gpu_inference.engine import conditioning, noise
from gpu_inference.engine.backends import DEFAULT_BACKEND, open_backend
from gpu_inference.engine.backends.base import Backend
from gpu_inference.engine.errors import Cancelled, EngineError
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.metadata import write_png
from gpu_inference.engine.preview import Previewer
from gpu_inference.engine.request import RenderRequest
from gpu_inference.engine.samplers import create_sampler
from gpu_inference.engine.schedule import NoiseSchedule
from gpu_inference.engine.sizes import SizePlan, plan_size
from gpu_inference.engine.tokenizer import Tokenizer
from gpu_inference.protocol import ImageResult

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps, phase); the phases are ``encoding``, ``denoising``, ``decoding``, ``saving``."""

_NOTABLE_CUT = 0.02
_NAMED_WORDS = 8
_LONGEST_WORD = 40


@dataclass(frozen=True)
class Rendered:
    """A picture's bytes and what is to be said of it."""

    png: bytes
    result: ImageResult


def _ignore(_step: int, _steps: int, _phase: str) -> None:
    """Progress that nobody watches."""


def to_picture(decoded: npt.NDArray[Any]) -> Image.Image:
    """Float ``[1, 3, height, width]`` in -1 to 1 as RGB. Raises :class:`EngineError` where it holds no numbers."""
    if not np.isfinite(decoded).all():
        raise EngineError("The model gave values that are not numbers.")
    pixels = np.clip(decoded[0].transpose(1, 2, 0) * 127.5 + 127.5, 0.0, 255.0).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels))


def fit(picture: Image.Image, plan: SizePlan) -> Image.Image:
    """The picture at the size that was asked for: scaled until it covers it, cut around the centre."""
    if not plan.scaled:
        return picture
    ratio_x, ratio_y = picture.width / plan.cover_width, picture.height / plan.cover_height
    box = (plan.left * ratio_x, plan.top * ratio_y, (plan.left + plan.width) * ratio_x, (plan.top + plan.height) * ratio_y)
    return picture.resize((plan.width, plan.height), Image.Resampling.LANCZOS, box=box)


class Pipeline:
    """A loaded model. Not to be shared between threads; one picture at a time."""

    def __init__(self, folder: ModelFolder, backend: Backend) -> None:
        self.folder = folder
        self.backend = backend
        self._manifest = folder.manifest
        self._schedule = NoiseSchedule(self._manifest)
        part = self._manifest.tokenizer
        self._tokenizer = Tokenizer(folder.file(part.file), part.max_length, part.unknown_words == "drop")

    @classmethod
    def load(cls, folder: ModelFolder, threads: int = 0, backend: str = DEFAULT_BACKEND) -> Pipeline:
        """Checks the folder's files and loads them. Raises :class:`EngineError`'s kinds."""
        folder.verify()
        return cls(folder, open_backend(backend, folder, threads))

    def close(self) -> None:
        """Frees the device."""
        self.backend.close()

    def render(
        self,
        request: RenderRequest,
        progress: Progress = _ignore,
        cancelled: Callable[[], bool] = lambda: False,
        loras: Sequence[Applied] = (),
        preview: Optional[Previewer] = None,
    ) -> Rendered:
        """Makes the picture; ``loras`` are those that the request names.

        ``cancelled`` is asked before every call of the model and every phase; a step of several calls is told at each of
        them. Raises :class:`Cancelled`, or another :class:`EngineError` with a sentence.
        """
        begun = time.perf_counter()
        if request.steps_default and self._manifest.default_steps is not None:
            request = replace(request, steps=self._manifest.default_steps)

        def at(step: int, phase: str) -> None:
            if cancelled():
                raise Cancelled(f"The job was cancelled after {step} of {request.steps} steps.")
            progress(step, request.steps, phase)

        at(0, "encoding")
        plan = plan_size(request.width, request.height, self._manifest.size_buckets)
        asked = self._manifest.default_guidance if request.guidance_scale is None else request.guidance_scale
        guidance = min(asked, self._manifest.guidance_limit)
        inputs, dropped, unknown = conditioning.build(
            self._manifest, self._tokenizer, request.prompt, request.negative_prompt, guidance, plan
        )
        self.backend.adapt(loras)
        self.backend.prepare([inputs])
        latents = self._sample(request, plan, at, preview)
        at(request.steps, "decoding")
        picture = fit(to_picture(self.backend.decode(latents)), plan)
        at(request.steps, "saving")
        result = ImageResult(
            seed=request.seed,
            model=self._manifest.name,
            sampler=request.sampler,
            steps=request.steps,
            width=plan.width,
            height=plan.height,
            native_width=plan.native_width,
            native_height=plan.native_height,
            generation_time=0.0,
            scaled=plan.scaled,
            warnings=[
                *_warnings(dropped, self._manifest.tokenizer.max_length, plan),
                *_guidance_warning(asked, guidance),
                *_vocabulary_warning(unknown),
            ],
        )
        png = write_png(picture, self._metadata(request, result, guidance, inputs.guidance_rescale, loras))
        result.generation_time = round(time.perf_counter() - begun, 4)
        return Rendered(png, result)

    def _sample(
        self, request: RenderRequest, plan: SizePlan, at: Callable[[int, str], None], preview: Optional[Previewer] = None
    ) -> npt.NDArray[Any]:
        factor = self._manifest.vae_scale_factor
        shape = (1, self._manifest.latent_channels, plan.native_height // factor, plan.native_width // factor)
        sampler = create_sampler(request.sampler, self._schedule, request.steps)
        latents = sampler.start(noise.normal(request.seed, 0, shape))
        calls = len(sampler.timesteps)
        for index in range(calls):
            at(index * request.steps // calls, "denoising")
            shown = sampler.model_input(latents, index)
            prediction = self.backend.denoise(shown, float(sampler.timesteps[index]))
            step = (index + 1) * request.steps // calls
            if preview is not None and step < request.steps and preview.due(step):
                estimate = self._schedule.clean(shown, prediction, float(sampler.timesteps[index]))
                preview.show(step, estimate[0], self._manifest.preview_factors)
            fresh = noise.normal(request.seed, index + 1, shape) if sampler.needs_noise else None
            latents = sampler.step(latents, prediction, index, fresh)
        return latents

    def _metadata(
        self, request: RenderRequest, result: ImageResult, guidance: float, rescale: float, loras: Sequence[Applied]
    ) -> Dict[str, Any]:
        return {
            **_named(loras),
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "width": result.width,
            "height": result.height,
            "steps": result.steps,
            "guidance_scale": guidance,
            "guidance_rescale": rescale,
            "seed": result.seed,
            "scheduler": result.sampler,
            "model": result.model,
            "model_version": self._manifest.version,
            "model_hash": self._manifest.sha256[self._manifest.unet.file],
            "native_width": result.native_width,
            "native_height": result.native_height,
            "scaled": result.scaled,
            "warnings": result.warnings,
            "backend": self.backend.name,
            "version": __version__,
        }


def _named(loras: Sequence[Applied]) -> Dict[str, Any]:
    """LoRAs as a payload names them: the first alone, the others in a list."""
    if not loras:
        return {}
    more = [{"name": each.lora.name, "strength": each.strength} for each in loras[1:]]
    return {"lora": loras[0].lora.name, "lora_strength": loras[0].strength, **({"loras": more} if more else {})}


def _warnings(dropped: int, max_length: int, plan: SizePlan) -> List[str]:
    warnings = []
    if dropped:
        warnings.append(f"The prompts were cut: {dropped} tokens did not fit into the {max_length} that the model reads.")
    if plan.cut > _NOTABLE_CUT:
        warnings.append(
            f"The model has no native size of this aspect: {plan.native_width} x {plan.native_height} was rendered"
            f" and {plan.cut * 100:.0f} % of it cut off."
        )
    return warnings


def _vocabulary_warning(unknown: Sequence[str]) -> List[str]:
    if not unknown:
        return []
    named = ", ".join(word[:_LONGEST_WORD] for word in unknown[:_NAMED_WORDS])
    return [f"The model does not know these words, which were left out: {named}{' and others' if len(unknown) > _NAMED_WORDS else ''}."]


def _guidance_warning(asked: float, used: float) -> List[str]:
    if asked <= used:
        return []
    return [f"The model's pictures get worse above a guidance of {used:g}: that was used, where {asked:g} was asked for."]
