"""One picture in this process, without agent or control plane: ``fleet-worker render``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, Sequence

from gpu_inference.engine.backends import DEFAULT_BACKEND
from gpu_inference.engine.batch import Progress
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import BadRequest, EngineError
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.metadata import read_metadata
from gpu_inference.engine.pipeline import Pipeline, Rendered
from gpu_inference.engine.places import place_of
from gpu_inference.engine.request import parse_request
from gpu_inference.engine.shelf import Shelf

_TAKEN = (
    "prompt", "negative_prompt", "width", "height", "steps", "guidance_scale", "seed", "scheduler", "model", "lora", "lora_strength",
    "loras",
)  # fmt: skip


def payload_of(options: argparse.Namespace) -> Dict[str, Any]:
    """The job's payload from the command's options. Raises :class:`BadRequest`."""
    payload: Dict[str, Any] = {}
    if options.like is not None:
        try:
            kept = read_metadata(options.like.read_bytes())
        except OSError as error:
            raise BadRequest(f"The picture {options.like} cannot be read ({error.strerror}).") from error
        if kept is None:
            raise BadRequest(f"The picture {options.like} does not say how it was made.")
        payload = {name: kept.get(name) for name in _TAKEN}
    if options.size is not None:
        width, cross, height = options.size.lower().partition("x")
        if not cross or not width.isdigit() or not height.isdigit():
            raise BadRequest(f"The size must be WIDTHxHEIGHT in pixels, such as 512x512, and '{options.size:.60}' was given.")
        payload["width"], payload["height"] = int(width), int(height)
    given = {
        "prompt": options.prompt or None,
        "negative_prompt": options.negative,
        "steps": options.steps,
        "guidance_scale": options.guidance,
        "seed": options.seed,
        "scheduler": options.scheduler,
        "lora": getattr(options, "lora", None),
        "lora_strength": getattr(options, "lora_strength", None),
    }
    payload.update({name: value for name, value in given.items() if value is not None})
    return payload


def _show(step: int, steps: int, phase: str) -> None:
    print(f"\r{phase:10} {step}/{steps} ", end="", file=sys.stderr, flush=True)


def _render(options: argparse.Namespace, models: Sequence[Path], backend: str, progress: Progress) -> Rendered:
    """The picture, by the one of ``models``, or of the models in them, that ``--like`` names, or by the first."""
    payload = payload_of(options)

    def load(folder: ModelFolder) -> Pipeline:
        return Pipeline.load(folder, options.threads, backend)

    catalogue = Catalogue(models, load, shelf=Shelf(load, place=place_of(backend, None)))
    if payload.get("model") not in catalogue.folders:
        payload["model"] = None
    request = parse_request(payload)
    loras = catalogue.applied(request)
    return catalogue.pipeline(request.model).render(request, progress, loras=loras)


def render_file(options: argparse.Namespace, models: Sequence[Path], backend: str = DEFAULT_BACKEND) -> str:
    """Renders to ``options.output``; returns an error's sentence, or an empty text."""
    progress = _show if sys.stderr.isatty() else (lambda _step, _steps, _phase: None)
    try:
        rendered = _render(options, models, backend, progress)
        options.output.write_bytes(rendered.png)
    except EngineError as error:
        return str(error)
    except OSError as error:
        return f"The picture {options.output} cannot be written ({error.strerror})."
    if sys.stderr.isatty():
        print(file=sys.stderr)
    result = rendered.result
    print(f"{options.output}: {result.width} x {result.height}, seed {result.seed}, {result.generation_time:.2f} s")
    for warning in result.warnings:
        print(warning, file=sys.stderr)
    return ""
