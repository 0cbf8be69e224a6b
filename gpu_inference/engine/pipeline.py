"""From a request to a PNG: tokens, conditioning, steps, decoding, scaling, metadata."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt
from PIL import Image

from gpu_inference import __version__
from gpu_inference.engine.backends import DEFAULT_BACKEND, open_backend
from gpu_inference.engine.backends.base import Backend
from gpu_inference.engine.batch import Limits, Part, Progress, Row, ignore, joined, let_go
from gpu_inference.engine.errors import BackendError, EngineError, OutOfMemory, said
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.metadata import write_png
from gpu_inference.engine.preview import Previewer
from gpu_inference.engine.request import RenderRequest
from gpu_inference.engine.schedule import NoiseSchedule
from gpu_inference.engine.sizes import SizePlan
from gpu_inference.engine.tokenizer import Tokenizer
from gpu_inference.protocol import ImageResult

_NOTABLE_CUT = 0.02
_NAMED_WORDS = 8
_LONGEST_WORD = 40


@dataclass(frozen=True)
class Rendered:
    """A picture's bytes and what is to be said of it."""

    png: bytes
    result: ImageResult


Outcome = Union[Rendered, EngineError]
"""A picture, or why there is none."""


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
    """A loaded model. Not to be shared between threads; one batch at a time."""

    def __init__(self, folder: ModelFolder, backend: Backend) -> None:
        self.folder = folder
        self.backend = backend
        self._manifest = folder.manifest
        self._schedule = NoiseSchedule(self._manifest)
        self._limits = Limits(backend.most_pictures)
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
        progress: Progress = ignore,
        cancelled: Callable[[], bool] = lambda: False,
        loras: Sequence[Applied] = (),
        preview: Optional[Previewer] = None,
    ) -> Rendered:
        """Makes one picture: a batch of one (:meth:`render_batch`). Raises :class:`Cancelled`, or another :class:`EngineError`."""
        [(_, outcome)] = self.render_batch([Part(request, progress, cancelled, preview)], loras)
        if isinstance(outcome, EngineError):
            raise outcome
        return outcome

    def render_batch(self, parts: Sequence[Part], loras: Sequence[Applied] = ()) -> Iterator[Tuple[int, Outcome]]:
        """Makes pictures of the same LoRAs, those of one kind together; yields the place and what became of each, as it ends.

        A step of several calls of the model is told at each of them. Where several at once do not go, as when they do not fit into the
        memory, fewer are tried, and the warnings say so; what did not fit is not tried again at that size.
        """
        rows: List[Row] = []
        for number, part in enumerate(parts):
            try:
                rows.append(Row(number, part, self._manifest, self._tokenizer))
            except Exception as problem:  # of this one alone
                yield number, said(problem)
        while rows:
            alike = [row for row in rows if row.kind == rows[0].kind]
            first = alike[: min(rows[0].most, self._limits.of(rows[0].kind))]
            for row in first:
                rows.remove(row)
            for row, outcome in self._try(first, rows, loras):
                yield row.number, outcome

    def _try(self, live: List[Row], waiting: List[Row], loras: Sequence[Applied]) -> Iterator[Tuple[Row, Outcome]]:
        """Makes rows together; those that did not go together are the first of those ``waiting`` then."""
        try:
            yield from self._make(live, waiting, loras)
        except (EngineError, MemoryError) as problem:
            error = said(problem)
            if len(live) == 1 or not isinstance(error, (OutOfMemory, BackendError)):  # by their number it is not
                yield from ((row, error) for row in live)
                return
            number, fewer = len(live), len(live) // 2
            why = "could not be made together"
            if isinstance(error, OutOfMemory):
                why = "did not fit into the memory"
                self._limits.learn(live[0].kind, fewer)
            for row in live:
                row.most = fewer
                row.warnings.append(f"{number} pictures at once {why}; {fewer} at a time were tried.")
            waiting[:0] = live
            self.backend.relieve()

    def _make(self, live: List[Row], waiting: List[Row], loras: Sequence[Applied]) -> Iterator[Tuple[Row, Outcome]]:
        """Makes rows of one kind; takes each out of ``live`` as it ends, and those that are cancelled out of ``waiting`` too."""
        self.backend.adapt(loras)
        prepared: List[Row] = []
        for row in live:
            row.begin(self._schedule, len(live))
        timesteps = live[0].timesteps
        for index in range(len(timesteps)):
            yield from self._heed(live, waiting, live[0].steps_after(index))
            if not live:
                return
            if prepared != live:  # at first, and where a row has gone
                self.backend.prepare([row.inputs for row in live])
                prepared = list(live)
            for row in live:
                row.tell(row.steps_after(index), "denoising")
            shown = joined([row.shown(index) for row in live])
            predictions = self.backend.denoise(shown, float(timesteps[index]))
            for place, row in enumerate(live):
                row.take(index, shown[place : place + 1], predictions[place : place + 1])
        while live:
            yield from self._heed(live, waiting, live[0].request.steps)
            if live:
                live[0].tell(live[0].request.steps, "decoding")
                outcome = self._end(live[0], loras)
                yield live.pop(0), outcome

    def _heed(self, live: List[Row], waiting: List[Row], step: int) -> Iterator[Tuple[Row, Outcome]]:
        yield from let_go(live, step)
        yield from let_go(waiting)

    def _end(self, row: Row, loras: Sequence[Applied]) -> Outcome:
        """A row's picture, or why there is none. Each is decoded by itself, so that what fails here is not by their number."""
        try:
            decoded = self._decode(row)
        except (EngineError, MemoryError) as problem:
            return said(problem)
        try:
            return self._finish(row, decoded, loras)
        except Exception as problem:  # of this one alone
            return said(problem)

    def _decode(self, row: Row) -> npt.NDArray[Any]:
        with suppress(OutOfMemory, MemoryError):
            return self.backend.decode(row.latents)
        self.backend.relieve()  # not before the error is gone, which holds on to what there was when it was raised
        return self.backend.decode(row.latents)

    def _finish(self, row: Row, decoded: npt.NDArray[Any], loras: Sequence[Applied]) -> Rendered:
        """The picture of what was decoded."""
        request, plan = row.request, row.plan
        picture = fit(to_picture(decoded), plan)
        row.check(request.steps)
        row.tell(request.steps, "saving")
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
            batch=row.beside,
            warnings=[
                *_warnings(row.dropped, self._manifest.tokenizer.max_length, plan),
                *_guidance_warning(row.asked, row.guidance),
                *_vocabulary_warning(row.unknown),
                *row.warnings,
            ],
        )
        png = write_png(picture, self._metadata(request, result, row.guidance, row.inputs.guidance_rescale, loras))
        result.generation_time = round(time.perf_counter() - row.begun, 4)
        return Rendered(png, result)

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
