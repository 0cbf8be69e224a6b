"""SDXL's UNet and decoder in full size with random weights on a GPU: our backends beside diffusers, plain and compiled, in one run.

The text encoders, less than a hundredth of the work, have three layers each. 1024 x 1024, 20 steps with guidance; one picture at a
time, then a batch; each in a process of its own, warm, in half precision, with a decoder that is safe in it. The arithmetic of such a
picture is 281 TFLOP (derived from the published sizes of the networks), so the floor of a device is that by its dense half-precision
rate. Needs a GPU, torch and diffusers. ``python -m benchmarks.gpu_sdxl``. Each row is written as it comes (``--output``); with
``--limit-seconds`` no process gets more than its share of the time that is left, and the rows that were too slow say so.

``--small`` runs the same code with tiny networks, on a CPU too: it shows that the benchmark runs, and no figure of it means anything.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PROMPT, NEGATIVE, GUIDANCE, STEPS = "a red circle at night", "blurry", 6.0, 20
SIDE, BATCH, RUNS = 1024, 8, 5
SMALL_SIDE, SMALL_BATCH = 128, 2
TFLOP_A_PICTURE = 280.9
DENSE_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}
"""Dense half-precision rates as their maker states them, by a part of the device's name."""

GOAL_SECONDS, GOAL_RATE = 0.9, 1.5
RESULT = Path(__file__).parent / "results" / "gpu_sdxl.json"
COMMAND = (sys.executable, "-m", "benchmarks.gpu_sdxl")
LONGEST_SECONDS = 1200.0
"""So long one process may take, whatever the limit of the whole."""

SHARES = {"make": 2.0, "plain": 1.0, "compiled": 3.0, "torch": 1.5, "tensorrt": 4.0}
"""How a limit is shared out; what one does not need goes to those after it."""

LEFT_OUT = "SDXL in full size on a GPU: left out, as {}"
NO_GPU = "there is no GPU"
KEPT_BACK = 0.03
"""The part of a limit that is for what comes after the last process."""

ROWS = {"diffusers": "plain", "diffusers compiled": "compiled", "ours, torch": "torch", "ours, TensorRT": "tensorrt"}

UNET: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280), "layers_per_block": 2, "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
}  # fmt: skip
VAE: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}


def make(folder: Path, small: bool) -> None:
    """Write the model twice with the same weights: a folder of diffusers, and ours."""
    import torch

    from gpu_inference.importing.convert import Wishes, import_model
    from tests.support import sdxl_checkpoints

    if not small:
        sdxl_checkpoints.WIDTHS = (768, 1280)
    sizes: dict[str, Any] = {} if small else {"unet": UNET, "vae": VAE}
    pipeline = sdxl_checkpoints.build_pipeline(folder / "diffusers", **sizes)
    pipeline.vae.register_to_config(force_upcast=False)
    pipeline.to(torch.float16).save_pretrained(str(folder / "diffusers"))
    wishes = Wishes(native_size=SMALL_SIDE if small else SIDE, vae_half=True)
    import_model(folder / "diffusers", "bench", folder / "ours", wishes)


def theirs(folder: Path, small: bool, compiled: bool) -> dict[str, float]:
    """diffusers, in this process."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    cuda = torch.cuda.is_available()
    begun = time.perf_counter()
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        str(folder / "diffusers"), torch_dtype=torch.float16 if cuda else torch.float32, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to("cuda" if cuda else "cpu")
    if compiled:  # as its own guide has it
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
        mode = "max-autotune" if cuda else "default"
        pipeline.unet = torch.compile(pipeline.unet, mode=mode, fullgraph=True)
        pipeline.vae.decode = torch.compile(pipeline.vae.decode, mode=mode, fullgraph=True)
    loaded = time.perf_counter() - begun
    side, batch = (SMALL_SIDE, SMALL_BATCH) if small else (SIDE, BATCH)
    said: dict[str, Any] = {"width": side, "height": side, "guidance_scale": GUIDANCE, "num_inference_steps": STEPS}
    return measured(loaded, lambda count: pipeline([PROMPT] * count, negative_prompt=[NEGATIVE] * count, **said), batch)


def ours(folder: Path, small: bool, backend: str) -> dict[str, float]:
    """One of our backends, in this process, with the sampler's loop as the pipeline runs it."""
    from gpu_inference.engine import conditioning, noise
    from gpu_inference.engine.manifest import load_model_folder
    from gpu_inference.engine.pipeline import Pipeline, to_picture
    from gpu_inference.engine.samplers import create_sampler
    from gpu_inference.engine.schedule import NoiseSchedule
    from gpu_inference.engine.sizes import plan_size
    from gpu_inference.engine.tokenizer import Tokenizer

    side, batch = (SMALL_SIDE, SMALL_BATCH) if small else (SIDE, BATCH)
    model = load_model_folder(folder / "ours")
    if backend == "tensorrt":
        _build(folder, model, batch)
    begun = time.perf_counter()
    pipeline = Pipeline.load(model, 0, backend)
    loaded = time.perf_counter() - begun
    manifest = model.manifest
    tokenizer = Tokenizer(model.file(manifest.tokenizer.file), manifest.tokenizer.max_length)
    schedule = NoiseSchedule(manifest)

    def render(count: int) -> None:
        inputs = conditioning.build(manifest, tokenizer, PROMPT, NEGATIVE, GUIDANCE, plan_size(side, side, manifest.size_buckets))[0]
        pipeline.backend.prepare([inputs] * count)
        sampler = create_sampler("euler", schedule, STEPS)
        factor = manifest.vae_scale_factor
        latents = sampler.start(noise.normal(1, 0, (count, manifest.latent_channels, side // factor, side // factor)))
        for index, moment in enumerate(sampler.timesteps):
            latents = sampler.step(latents, pipeline.backend.denoise(sampler.model_input(latents, index), float(moment)), index, None)
        for each in pipeline.backend.decode(latents):
            to_picture(each[None])

    return measured(loaded, render, batch)


def _build(folder: Path, model: Any, batch: int) -> None:
    from gpu_inference.building.build import build_engines
    from gpu_inference.building.plans import default_store
    from gpu_inference.engine.backends.cudart import Cuda

    os.environ.update(FLEET_ENGINE_PLANS=str(folder / "plans"), FLEET_ENGINE_PICTURES=str(batch))
    begun = time.perf_counter()
    build_engines(model, default_store(), Cuda(), lambda *_: None)
    print(f"TensorRT's engines were built in {time.perf_counter() - begun:.0f} s", file=sys.stderr)


def measured(loaded: float, render: Callable[[int], Any], batch: int) -> dict[str, float]:
    """Seconds of one picture (the median of the runs), pictures a second of a batch, and the device's memory in use, after a warm-up."""
    import torch

    begun = time.perf_counter()
    render(1)
    first = time.perf_counter() - begun
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        render(1)
        times.append(time.perf_counter() - begun)
    found = {"load_seconds": loaded, "first_seconds": first, "seconds": sorted(times)[len(times) // 2]}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found["device_mib"] = (total - free) / 2**20
    render(batch)
    begun = time.perf_counter()
    render(batch)
    return {**found, "pictures_per_second": batch / (time.perf_counter() - begun)}


def device() -> str:
    """The device's name, in words."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "CPU"


def missing() -> str:
    """Say why there is nothing to measure on; empty where there is."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("diffusers") is None:
        return "torch and diffusers are not installed"
    return NO_GPU if device() == "CPU" else ""


def _child(what: str, folder: Path, small: bool, seconds: float) -> dict[str, Any]:
    """Run one process, and end it and all that it began after so long."""
    command = [*COMMAND, what, "--folder", str(folder), *(["--small"] if small else [])]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, text=True, start_new_session=True)
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"error": f"ended after {seconds:.0f} s, which is all that it may take"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        err.seek(0)
        if code:
            return {"error": " ".join(err.read().strip().splitlines()[-1:])[:300] or f"it ended with {code}"}
        found: dict[str, Any] = json.loads(out.read().splitlines()[-1])
        return found


class _Time:
    """Shares out what is left of a limit among those that have not run yet."""

    def __init__(self, limit: float | None, left: list[str]) -> None:
        self._end = None if limit is None else time.monotonic() + limit * (1 - KEPT_BACK)
        self._left = left

    def of(self, what: str) -> float:
        """Return how long the next one may take."""
        share = SHARES[what] / sum(SHARES[each] for each in self._left)
        self._left.remove(what)
        return LONGEST_SECONDS if self._end is None else min(LONGEST_SECONDS, max(0.1, (self._end - time.monotonic()) * share))


def report(small: bool = False, output: Path | None = RESULT, limit: float | None = None) -> dict[str, Any]:
    """Print the table, and write its figures to ``output``, row by row. ``limit`` are the seconds that all of it may take."""
    rows: dict[str, dict[str, Any]] = {}
    found: dict[str, Any] = {"device": device(), "date": time.strftime("%Y-%m-%d"), "rows": rows}
    absent = {"tensorrt"} if importlib.util.find_spec("tensorrt") is None else set()
    shared = _Time(limit, [what for what in ("make", *ROWS.values()) if what not in absent])

    def keep() -> None:
        if output is not None:
            output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        made = _child("make", folder, small, shared.of("make"))
        if "error" in made:
            found["error"] = f"the model: {made['error']}"
            keep()
            print(found["error"])
            return found
        for name, what in ROWS.items():
            rows[name] = {"error": "TensorRT is not installed"} if what in absent else _child(what, folder, small, shared.of(what))
            keep()
            print(f"{name}: {json.dumps(rows[name])}", file=sys.stderr, flush=True)
    _show(found["device"], rows, small)
    return found


def _show(where: str, rows: dict[str, dict[str, Any]], small: bool) -> None:
    print(
        f"SDXL's full architecture, {SIDE} x {SIDE}, {STEPS} steps with guidance, on {where}" if not small else f"Tiny networks, on {where}"
    )
    print(f"{'':20}{'s/picture':>12}{f'pictures/s of {BATCH}':>18}{'TFLOP/s':>10}{'load s':>10}{'first s':>10}{'device MiB':>12}")
    for name, row in rows.items():
        if "error" in row:
            print(f"{name:20}  {row['error']}")
            continue
        rate = TFLOP_A_PICTURE / row["seconds"]
        print(
            f"{name:20}{row['seconds']:12.3f}{row['pictures_per_second']:18.2f}{rate:10.0f}{row['load_seconds']:10.1f}"
            f"{row['first_seconds']:10.1f}{row.get('device_mib', 0):12.0f}"
        )
    if not small:
        _compare(where, rows)


def _compare(where: str, rows: dict[str, dict[str, Any]]) -> None:
    dense = next((rate for name, rate in DENSE_TFLOPS.items() if name in where), None)
    if dense is not None:
        print(f"The floor of this device: {TFLOP_A_PICTURE / dense:.3f} s a picture ({TFLOP_A_PICTURE:g} TFLOP at {dense:g} TFLOP/s)")
    mine = [row for name, row in rows.items() if name.startswith("ours") and "error" not in row]
    if mine:
        best = min(mine, key=lambda row: float(row["seconds"]))
        rate = max(float(row["pictures_per_second"]) for row in mine)
        if "error" not in rows["diffusers compiled"]:
            print(f"Ratio to diffusers compiled: {best['seconds'] / rows['diffusers compiled']['seconds']:.2f} (goal: below 1)")
        print(f"Latency {best['seconds']:.3f} s (goal: {GOAL_SECONDS}), {rate:.2f} pictures/s (goal: {GOAL_RATE})")


def main() -> int:
    """The children's entry point; without words, the whole table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["make", *ROWS.values()])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--small", action="store_true", help="tiny networks: only to see that the benchmark runs")
    parser.add_argument(
        "--output", type=Path, help="where each row is written as it comes (default: beside the other results; with --small, nowhere)"
    )
    parser.add_argument("--limit-seconds", type=float, help="how long the whole may take, such as 600 (default: 20 minutes a process)")
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.small)
        print("{}")
    elif options.what in ("plain", "compiled"):
        print(json.dumps(theirs(options.folder, options.small, options.what == "compiled")))
    elif options.what:
        print(json.dumps(ours(options.folder, options.small, options.what)))
    if options.what:
        return 0
    begun = time.monotonic()  # torch takes seconds to be imported
    reason = missing()
    if reason and not (options.small and reason == NO_GPU):
        print(LEFT_OUT.format(reason))
        return 0
    limit = None if options.limit_seconds is None else max(1.0, options.limit_seconds - (time.monotonic() - begun))
    found = report(options.small, options.output or (None if options.small else RESULT), limit)
    return int("error" in found)


if __name__ == "__main__":
    sys.exit(main())
