"""Seconds per picture: our pipeline beside diffusers' SDXL pipeline, same weights, steps and threads, both warm.

    python -m benchmarks.pipeline_vs_diffusers [--threads 2] [--steps 20] [--rounds 5] [--weights DIR]

Needs the parity group (torch, diffusers). Pictures are those of the built-in model's architecture at its native size;
weights are random, or those of a training's checkpoints (``--weights``). Rounds alternate between the two, so that a
machine that is busy with something else is so for both. One line compares the pictures: they are the same.
"""

from __future__ import annotations

import argparse
import io
import json
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, default=None, metavar="DIR", help="a training's checkpoints (vae.pt, diffusion.pt)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        twin = build_twin(folder, options.weights)
        side = load_model_folder(folder).manifest.native_size
        works: dict[str, Callable[[int], bytes]] = {
            "diffusers": theirs_of(twin, folder, options.steps),
            "ours": ours_of(folder, options.threads, options.steps, side),
            "ours, scaled to 1024x1024": ours_of(folder, options.threads, options.steps, 1024),
        }
        apart = difference(works["diffusers"](0), works["ours"](0))
        works["ours, scaled to 1024x1024"](0)
        taken: dict[str, list[float]] = {title: [] for title in works}
        for seed in range(1, options.rounds + 1):
            for title, work in works.items():
                taken[title].append(seconds(work, seed))
    medians = {title: statistics.median(values) for title, values in taken.items()}
    ratio = medians["diffusers"] / medians["ours"]
    if options.json:
        print(json.dumps({"seconds": medians, "ratio": ratio, "difference": apart, "threads": options.threads, "steps": options.steps}))
        return
    print(
        f"{side} x {side}, {options.steps} steps, {options.threads} threads, median of {options.rounds}; seconds per picture (least, most)"
    )
    for title, values in taken.items():
        print(f"  {title:28} {medians[title]:7.3f}  ({min(values):.3f}, {max(values):.3f})")
    print(f"  ours is {ratio:.2f} times as fast; the pictures differ by at most {apart} of 255")


if __name__ == "__main__":
    main()
