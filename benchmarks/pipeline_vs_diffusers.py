"""Seconds per picture: our pipeline beside diffusers' SDXL pipeline, same weights, steps and threads, both warm.

    python -m benchmarks.pipeline_vs_diffusers [--threads 2] [--steps 20] [--rounds 5] [--weights DIR]

Needs the parity group (torch, diffusers). Pictures are those of the built-in model's architecture at its native size;
weights are random, or those of a training's checkpoints (``--weights``). Rounds alternate between the two, so that a
machine that is busy with something else is so for both. One line compares the pictures: they are the same.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gpu_inference.engine import noise
from gpu_inference.engine.conditioning import guidance_rescale
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request
from tests.support.sdxl_twin import build_twin

PROMPT, NEGATIVE, GUIDANCE = "a red circle above a blue square", "blurry, bad quality", 7.5


def seconds(work: Callable[[int], Any], seed: int) -> float:
    begun = time.perf_counter()
    work(seed)
    return time.perf_counter() - begun


def ours_of(folder: Path, threads: int, steps: int, side: int) -> Callable[[int], bytes]:
    pipeline = Pipeline.load(load_model_folder(folder), threads)

    def work(seed: int) -> bytes:
        payload = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE, "steps": steps, "seed": seed}
        return pipeline.render(parse_request({**payload, "width": side, "height": side})).png

    return work


def theirs_of(pipeline: Any, folder: Path, steps: int) -> Callable[[int], bytes]:
    manifest = load_model_folder(folder).manifest
    width, height = manifest.size_buckets[0]
    factor = manifest.vae_scale_factor

    def work(seed: int) -> bytes:
        picture = pipeline(
            prompt=PROMPT,
            negative_prompt=NEGATIVE,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            guidance_rescale=guidance_rescale(manifest, GUIDANCE),
            latents=torch.from_numpy(noise.normal(seed, 0, (1, manifest.latent_channels, height // factor, width // factor))),
        ).images[0]
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)
        return buffer.getvalue()

    return work


def difference(one: bytes, other: bytes) -> int:
    first, second = (np.asarray(Image.open(io.BytesIO(png))).astype(int) for png in (one, other))
    return int(np.abs(first - second).max())


def measure(threads: int = 2, steps: int = 20, rounds: int = 5, weights: Path | None = None) -> dict[str, Any]:
    """Return the seconds per picture of each, turn by turn and warm, and the ratio of the medians."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        twin = build_twin(folder, weights)
        side = load_model_folder(folder).manifest.native_size
        works: dict[str, Callable[[int], bytes]] = {
            "diffusers": theirs_of(twin, folder, steps),
            "ours": ours_of(folder, threads, steps, side),
            "ours, scaled to 1024x1024": ours_of(folder, threads, steps, 1024),
        }
        apart = difference(works["diffusers"](0), works["ours"](0))
        works["ours, scaled to 1024x1024"](0)
        taken: dict[str, list[float]] = {title: [] for title in works}
        for seed in range(1, rounds + 1):
            for title, work in works.items():
                taken[title].append(seconds(work, seed))
    medians = {title: statistics.median(values) for title, values in taken.items()}
    return {
        "side": side, "steps": steps, "threads": threads, "rounds": rounds, "seconds": medians, "all": taken,
        "ratio": medians["diffusers"] / medians["ours"], "difference": apart,
    }  # fmt: skip


def report(**options: Any) -> dict[str, Any]:
    """Measure and print."""
    found = measure(**options)
    side, rounds = found["side"], found["rounds"]
    print(f"{side} x {side}, {found['steps']} steps, {found['threads']} threads, median of {rounds}; seconds per picture (least, most)")
    for title, values in found["all"].items():
        print(f"  {title:28} {found['seconds'][title]:7.3f}  ({min(values):.3f}, {max(values):.3f})")
    print(f"  ours is {found['ratio']:.2f} times as fast (goal 1.50); the pictures differ by at most {found['difference']} of 255")
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, default=None, metavar="DIR", help="a training's checkpoints (vae.pt, diffusion.pt)")
    options = parser.parse_args()
    report(threads=options.threads, steps=options.steps, rounds=options.rounds, weights=options.weights)


if __name__ == "__main__":
    main()
