"""Several pictures at once: each is what it is alone, and ends by itself."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gpu_inference
from gpu_inference.engine import backends, child, wire
from gpu_inference.engine.batch import Part
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import BackendError, Cancelled, EngineError, LoraError, OutOfMemory
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.metadata import read_metadata
from gpu_inference.engine.pipeline import Pipeline, Rendered
from gpu_inference.engine.preview import Previewer
from gpu_inference.engine.request import parse_request
from gpu_inference.engine.samplers import SAMPLERS

BUILTIN = Path(gpu_inference.__file__).resolve().parent / "builtin"
TOLERANCE = 2
PROMPTS = ("a red circle", "a blue square on a green background", "two yellow triangles", "a small white star")


def ask(**changes: Any) -> Any:
    return parse_request({"prompt": "a red circle", "width": 64, "height": 64, "steps": 5, "seed": 3, **changes})


def pixels(png: bytes) -> Any:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture).astype(int)


def together(pipeline: Pipeline, *parts: Part, **more: Any) -> dict[int, Any]:
    return dict(pipeline.render_batch(parts, **more))


@pytest.fixture(scope="module")
def shapes() -> Iterator[Catalogue]:
    """The built-in chapter of models."""
    found = Catalogue([BUILTIN], lambda folder: Pipeline.load(folder, threads=2))
    yield found
    found.close()


@pytest.mark.parametrize("scheduler", list(SAMPLERS))
def test_a_picture_of_a_batch_is_the_one_that_it_is_alone(shapes: Catalogue, scheduler: str) -> None:
    pipeline = shapes.pipeline("fleet-shapes")
    asked = [
        ask(prompt=prompt, seed=seed, scheduler=scheduler, steps=8, width=128, height=128, guidance_scale=2.0 + seed)
        for seed, prompt in enumerate(PROMPTS)
    ]
    alone = [pipeline.render(request) for request in asked]
    made = together(pipeline, *map(Part, asked))
    for number, other in enumerate(alone):
        assert np.abs(pixels(made[number].png) - pixels(other.png)).max() <= TOLERANCE
        assert read_metadata(made[number].png) == read_metadata(other.png)
        assert (made[number].result.batch, other.result.batch) == (4, 1)


def test_with_a_lora_and_without_guidance(shapes: Catalogue) -> None:
    asked = [ask(model="fleet-shapes", lora="night", seed=seed, width=128, height=128, guidance_scale=1) for seed in range(3)]
    pipeline, loras = shapes.pipeline("fleet-shapes"), shapes.applied(asked[0])
    alone = [pipeline.render(request, loras=loras) for request in asked]
    made = together(pipeline, *map(Part, asked), loras=loras)
    assert all(np.abs(pixels(made[number].png) - pixels(other.png)).max() <= TOLERANCE for number, other in enumerate(alone))


def test_what_is_not_of_one_kind_is_made_one_after_the_other(pipeline: Pipeline) -> None:
    changes = ({}, {"steps": 3}, {"guidance_scale": 1}, {"seed": 9, "guidance_scale": 4}, {"scheduler": "ddim"})
    asked = [ask(**each) for each in changes]
    made = together(pipeline, *map(Part, asked))
    assert [made[number].result.batch for number in range(5)] == [2, 1, 1, 2, 1]
    for number, request in enumerate(asked):
        assert np.abs(pixels(made[number].png) - pixels(pipeline.render(request).png)).max() <= TOLERANCE


def test_each_is_told_its_own_steps_warnings_and_previews(pipeline: Pipeline) -> None:
    told: dict[int, list[tuple[int, int, str]]] = {0: [], 1: []}
    shown: list[int] = []
    preview = Previewer(1, lambda step, jpeg: shown.append(step), clock=iter(np.arange(0.0, 1000.0)).__next__)  # type: ignore[arg-type]
    first = Part(ask(steps=4), lambda *what: told[0].append(what))
    second = Part(ask(steps=4, seed=8, guidance_scale=29.0), lambda *what: told[1].append(what), preview=preview)
    made = together(pipeline, first, second)
    steps = [(0, 4, "encoding"), *[(step, 4, "denoising") for step in range(4)], (4, 4, "decoding"), (4, 4, "saving")]
    assert told == {0: steps, 1: steps}
    assert shown == [1, 2, 3]
    assert [made[number].result.seed for number in range(2)] == [3, 8]
    assert (made[0].result.warnings != made[1].result.warnings) == bool(made[1].result.warnings)


@pytest.mark.parametrize("at", range(6))
def test_one_is_cancelled_and_the_others_are_the_same_pictures(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    alone = [pipeline.render(ask(seed=seed)) for seed in range(3)]
    rows: list[int] = []
    denoise = pipeline.backend.denoise
    monkeypatch.setattr(pipeline.backend, "denoise", lambda latents, t: rows.append(len(latents)) or denoise(latents, t))
    parts = [Part(ask(seed=seed), cancelled=lambda seed=seed: seed == 1 and len(rows) >= at) for seed in range(3)]  # type: ignore[misc]
    order = [(number, outcome) for number, outcome in pipeline.render_batch(parts)]
    assert rows == [3] * at + [2] * (5 - at)
    made = dict(order)
    assert isinstance(made[1], Cancelled)
    assert str(made[1]) == f"The job was cancelled after {at} of 5 steps."
    assert order[0][0] == 1
    for number in (0, 2):
        assert np.abs(pixels(made[number].png) - pixels(alone[number].png)).max() <= TOLERANCE


def test_one_that_waits_for_its_kind_hears_a_cancel_too(pipeline: Pipeline) -> None:
    made: list[int] = []
    other = Part(ask(steps=2), cancelled=lambda: len(made) > 1)
    found = list(pipeline.render_batch([Part(ask(), lambda *_: made.append(1)), other]))
    assert [(number, type(outcome)) for number, outcome in found] == [(1, Cancelled), (0, Rendered)]


def failing(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """Let no more than so many be made at once; return how many were tried."""
    tried: list[int] = []
    denoise = pipeline.backend.denoise

    def limited(latents: Any, timestep: float) -> Any:
        tried.append(len(latents))
        if len(latents) > most:
            raise error
        return denoise(latents, timestep)

    monkeypatch.setattr(pipeline.backend, "denoise", limited)
    return tried


@pytest.mark.parametrize("error", [OutOfMemory("no memory"), MemoryError(), BackendError("not built for this")])
def test_a_batch_that_does_not_fit_is_made_in_smaller_ones_and_remembered(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    alone = [pipeline.render(ask(seed=seed)) for seed in range(5)]
    tried = failing(pipeline, monkeypatch, 1, error)
    made = together(pipeline, *(Part(ask(seed=seed)) for seed in range(5)))
    again = [2] if isinstance(error, BackendError) else []
    assert tried == [5, 2] + [1] * 10 + again + [1] * 15
    why = "could not be made together" if isinstance(error, BackendError) else "did not fit into the memory"
    said = [f"{most} pictures at once {why}; {fewer} at a time were tried." for most, fewer in ((5, 2), (2, 1))]
    assert (made[0].result.warnings, made[4].result.warnings) == (said, said[:1])
    assert [each.result.batch for each in made.values()] == [1] * 5
    assert all((pixels(made[number].png) == pixels(other.png)).all() for number, other in enumerate(alone))
    tried.clear()
    together(pipeline, *(Part(ask(seed=seed)) for seed in range(3)))
    assert tried == ([3] if isinstance(error, BackendError) else []) + [1] * 15


def test_another_size_is_tried_as_large_again(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline.load(load_model_folder(tiny_model), threads=1)
    tried = failing(pipeline, monkeypatch, 2, OutOfMemory("no memory"))
    together(pipeline, *(Part(ask(seed=seed)) for seed in range(4)))
    assert tried == [4] + [2] * 10
    tried.clear()
    together(pipeline, *(Part(ask(seed=seed, width=64, height=128)) for seed in range(4)))
    assert tried[0] == 4


def test_one_alone_that_does_not_fit_fails(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(pipeline, monkeypatch, 0, OutOfMemory("no memory"))
    made = together(pipeline, Part(ask()), Part(ask(seed=4)))
    assert [type(made[number]) for number in range(2)] == [OutOfMemory, OutOfMemory]
    with pytest.raises(OutOfMemory):
        pipeline.render(ask())


def test_what_has_nothing_to_do_with_their_number_is_not_tried_again(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def adapt(_loras: Any) -> None:
        raise LoraError("It does not fit.")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.backend, "adapt", adapt)
        made = together(pipeline, Part(ask()), Part(ask(seed=4)))
    assert [type(made[number]) for number in range(2)] == [LoraError] * 2
    assert together(pipeline, Part(ask()), Part(ask(seed=4)))[0].result.batch == 2


def test_one_that_gives_no_numbers_fails_alone(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    denoise = pipeline.backend.denoise

    def spoilt(latents: Any, timestep: float) -> Any:
        prediction = denoise(latents, timestep)
        prediction[1] = np.nan
        return prediction

    monkeypatch.setattr(pipeline.backend, "denoise", spoilt)
    made = together(pipeline, *(Part(ask(seed=seed)) for seed in range(3)))
    assert isinstance(made[1], EngineError)
    assert "not numbers" in str(made[1])
    assert [made[number].result.batch for number in (0, 2)] == [3, 3]


def test_no_more_at_once_than_the_backend_can(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = failing(pipeline, monkeypatch, 100, OutOfMemory("no memory"))
    made = together(pipeline, *(Part(ask(seed=seed, steps=1)) for seed in range(10)))
    assert tried == [8, 2]
    assert len(made) == 10


@pytest.mark.parametrize(
    ("error", "times", "relieved", "failed"),
    [
        (OutOfMemory("no memory"), 1, 1, []),
        (MemoryError(), 1, 1, []),
        (OutOfMemory("no memory"), 2, 1, [OutOfMemory]),
        (MemoryError(), 2, 1, [OutOfMemory]),
        (BackendError("it failed"), 1, 0, [BackendError]),
    ],
)
def test_what_a_decoder_does_is_not_blamed_on_their_number(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, times: int, relieved: int, failed: list[type]
) -> None:
    pipeline = Pipeline.load(load_model_folder(tiny_model), threads=1)
    alone = [pipeline.render(ask(seed=seed)) for seed in range(4)]
    tried, decode, calls, relieves = failing(pipeline, monkeypatch, 4, error), pipeline.backend.decode, [0], [0]

    def limited(latents: Any) -> Any:
        calls[0] += 1
        if 2 <= calls[0] < 2 + times:
            raise error
        return decode(latents)

    def relieve() -> None:
        relieves[0] += 1

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.backend, "decode", limited)
        patch.setattr(pipeline.backend, "relieve", relieve)
        made = together(pipeline, *(Part(ask(seed=seed)) for seed in range(4)))
    assert tried == [4] * 5, "they are denoised once"
    assert relieves == [relieved]
    assert [type(made[number]) for number in range(4)] == [Rendered, *(failed or [Rendered]), Rendered, Rendered]
    for number in (0, 2, 3) if failed else range(4):
        assert (pixels(made[number].png) == pixels(alone[number].png)).all()
        assert (made[number].result.batch, made[number].result.warnings) == (4, alone[number].result.warnings)
    tried.clear()
    together(pipeline, *(Part(ask(seed=seed)) for seed in range(4)))
    assert tried == [4] * 5, "nothing is learnt of it"


@pytest.mark.parametrize("at", ["encoding", "saving"])
def test_what_nobody_expected_of_one_fails_it_alone(pipeline: Pipeline, at: str) -> None:
    def progress(_step: int, _steps: int, phase: str) -> None:
        if phase == at:
            raise RuntimeError("broken\nthings")

    made = together(pipeline, Part(ask()), Part(ask(seed=4), progress), Part(ask(seed=5)))
    assert isinstance(made[1], EngineError)
    assert (str(made[1]), made[1].kind) == ("The engine failed with RuntimeError: broken things", "engine")
    assert [type(made[number]) for number in (0, 2)] == [Rendered] * 2


@pytest.mark.parametrize(("error", "kinds"), [(RuntimeError("x"), ("engine_died", "engine")), (LoraError("x"), ("lora", "lora"))])
def test_what_nobody_expected_of_a_batch_is_not_held_against_each(error: Exception, kinds: tuple[str, str]) -> None:
    def render_batch(_parts: Any, _loras: Any) -> Any:
        raise error

    catalogue: Any = SimpleNamespace(
        loaded="a",
        spare=[],
        parked=[],
        is_warm=lambda _: True,
        applied=lambda _: [],
        pipeline=lambda _: SimpleNamespace(render_batch=render_batch),
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        engine = child.Child(theirs, catalogue)
        for number, kind in zip((3, 1), kinds, strict=True):
            first, *more = ({"job": f"j{each}", "payload": {"prompt": "x"}} for each in range(number))
            engine._serve(wire.Frame({"type": "render", **first, "companions": more}, b""))
            told = [wire.receive(ours) for _ in range(number)]
            assert [each and (each.message["job"], each.message["kind"], each.message["retry"]) for each in told] == [
                (f"j{each}", kind, True) for each in range(number)
            ]


@pytest.mark.parametrize(
    ("backend", "there", "pictures", "batch"),
    [
        ("auto", ["torch", "tensorrt"], "", 1),
        ("tensorrt", ["tensorrt"], "1", 1),
        ("auto", ["torch", "tensorrt"], "2", 2),
        ("auto", ["torch", "tensorrt"], "8", 4),
        ("torch", ["torch", "tensorrt"], "1", 4),
        ("auto", ["torch", "onnx"], "1", 4),
    ],
)
def test_before_a_model_is_loaded_no_more_are_taken_than_tensorrt_may_make(
    monkeypatch: pytest.MonkeyPatch, backend: str, there: list[str], pictures: str, batch: int
) -> None:
    for module in (backends, child):
        monkeypatch.setattr(module, "installed", lambda: there)
        monkeypatch.setattr(module, "gpu_present", lambda: True)
    monkeypatch.setenv("FLEET_ENGINE_PICTURES", pictures)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        nothing_loaded: Any = SimpleNamespace(backend=None)
        assert child.Child(theirs, nothing_loaded, backend)._batch() == batch
        assert child.Child(theirs, nothing_loaded, backend, 3)._batch() == min(3, batch if batch < 4 else 8)
