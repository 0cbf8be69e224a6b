"""An imported SDXL on the CPU beside diffusers: seconds a picture, seconds to load and to switch, and peak memory.

The same random weights, prompt, size, steps and threads; each in a process of its own, warm. The architecture is SDXL's with fewer
layers (some 400 million weights), so that a picture takes seconds. Needs torch and diffusers: ``make bench`` says how to add them.
``python -m benchmarks.sdxl_cpu``
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from gpu_inference.agent.allocation import tunables

PROMPT, NEGATIVE = "a red circle at night", "blurry"
SIDE, STEPS, GUIDANCE, RUNS, THREADS = 256, 4, 6.0, 3, 2
RESULT = Path(__file__).parent / "results" / "sdxl_cpu.json"


def peak_mib() -> float:
    """The most memory that this process ever held, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class Anonymous(threading.Thread):
    """The most memory of this process, in MiB, that is no file's and so cannot be dropped and read again; 50 looks a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0

    def run(self) -> None:
        """Looks as long as the process lives."""
        while True:
            said = Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]
            self.most = max(self.most, int(said) / 1024)
            time.sleep(0.02)


def make(folder: Path) -> None:
    """Write the model twice with the same weights: a folder of diffusers, and ours."""
    from gpu_inference.importing.convert import Wishes, import_model
    from tests.support.sdxl_checkpoints import build_pipeline

    sizes = {"block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 1, 3), "attention_head_dim": (5, 10, 20)}
    build_pipeline(folder / "diffusers", unet={**sizes, "layers_per_block": 1}, vae={"block_out_channels": (64, 128, 256, 256)})
    begun = time.perf_counter()
    import_model(folder / "diffusers", "bench", folder / "ours", Wishes(native_size=SIDE))
    print(json.dumps({"import_seconds": time.perf_counter() - begun}))


def ours(folder: Path) -> None:
    """Our engine, in this process."""
    from gpu_inference.engine.manifest import load_model_folder
    from gpu_inference.engine.pipeline import Pipeline
    from gpu_inference.engine.request import parse_request

    watch = Anonymous()
    watch.start()
    begun = time.perf_counter()
    pipeline = Pipeline.load(load_model_folder(folder / "ours"), THREADS, "onnx")
    loaded = time.perf_counter() - begun
    request: dict[str, Any] = {
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "width": SIDE, "height": SIDE, "steps": STEPS, "seed": 1, "guidance_scale": GUIDANCE,
    }  # fmt: skip
    found = _measured(loaded, lambda: pipeline.render(parse_request(request)), watch)
    begun = time.perf_counter()
    pipeline.close()
    Pipeline.load(load_model_folder(folder / "ours"), THREADS, "onnx").render(parse_request(request))
    print(json.dumps({**found, "switch_seconds": time.perf_counter() - begun}))


def theirs(folder: Path) -> None:
    """diffusers, in this process."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    torch.set_num_threads(THREADS)
    watch = Anonymous()
    watch.start()
    begun = time.perf_counter()
    pipeline = StableDiffusionXLPipeline.from_pretrained(str(folder / "diffusers"), torch_dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    loaded = time.perf_counter() - begun
    said = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "width": SIDE, "height": SIDE, "guidance_scale": GUIDANCE}
    found = _measured(loaded, lambda: pipeline(num_inference_steps=STEPS, **said), watch)
    begun = time.perf_counter()
    del pipeline
    gc.collect()
    pipeline = StableDiffusionXLPipeline.from_pretrained(str(folder / "diffusers"), torch_dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline(num_inference_steps=STEPS, **said)
    print(json.dumps({**found, "switch_seconds": time.perf_counter() - begun}))


def _measured(loaded: float, render: Any, watch: Anonymous) -> dict[str, float]:
    render()
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        render()
        times.append(time.perf_counter() - begun)
    seconds = sorted(times)[len(times) // 2]
    return {"load_seconds": loaded, "seconds": seconds, "peak_mib": peak_mib(), "anonymous_mib": watch.most}


def _child(what: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.sdxl_cpu", what, "--folder", str(folder)]
    as_agents_start_it = tunables() if what == "ours" else {}
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), **as_agents_start_it}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def report() -> dict[str, Any]:
    """Print the table, and return its figures."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        made = _child("make", folder)
        rows = {"diffusers": _child("theirs", folder), "onnx": _child("ours", folder)}
    mine, peer = rows["onnx"], rows["diffusers"]
    print(f"SDXL's architecture with fewer layers, {SIDE} x {SIDE}, {STEPS} steps with guidance, {THREADS} threads, warm")
    print(f"{'':12}{'s/picture':>12}{'load s':>10}{'switch s':>10}{'peak MiB':>12}{'no file':>12}")
    for name, row in rows.items():
        print(
            f"{name:12}{row['seconds']:12.2f}{row['load_seconds']:10.2f}{row['switch_seconds']:10.2f}{row['peak_mib']:12.0f}{row['anonymous_mib']:12.0f}"
        )
    ratios = {key: mine[key] / peer[key] for key in ("seconds", "load_seconds", "switch_seconds", "peak_mib", "anonymous_mib")}
    print(
        f"{'ratio':12}{ratios['seconds']:12.2f}{ratios['load_seconds']:10.2f}{ratios['switch_seconds']:10.2f}{ratios['peak_mib']:12.2f}{ratios['anonymous_mib']:12.2f}"
    )
    print(f"Our import of the same weights took {made['import_seconds']:.1f} s; our load checks every byte, theirs none.")
    print(
        "Switch: from a model that is loaded to the first picture of another. To a spare model that is kept warm it takes no load at all."
    )
    found = {**rows, "ratios": ratios, **made}
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def main() -> int:
    """The children's entry point; without words, the whole table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["make", "ours", "theirs"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.what:
        {"make": make, "ours": ours, "theirs": theirs}[options.what](options.folder)
    elif importlib.util.find_spec("diffusers") is None:
        print("SDXL beside diffusers: left out, as torch and diffusers are not installed (make test-parity adds them).")
    else:
        report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
