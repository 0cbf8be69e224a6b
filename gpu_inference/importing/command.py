"""``fleet-worker import``, and the same as a child of whoever tells its progress on: ``--lines`` writes JSON, a line each."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict

EXAMPLES = """examples:
  fleet-worker import sdxl-base.safetensors --out models/sdxl-base
  fleet-worker import noobai-vpred.safetensors --name noobai --prediction v_prediction --out models/noobai
  fleet-worker import stable-diffusion-xl-base-1.0/ --out models/sdxl-base    a folder of diffusers
  fleet-worker render "a lighthouse" --model models/sdxl-base -o out.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("checkpoint", type=Path, help="a single-file checkpoint of SDXL (.safetensors), or a folder of diffusers")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the model folder to make")
    parser.add_argument("--name", default=None, help="the model's name (default: that of the folder)")
    parser.add_argument("--precision", choices=["fp16", "fp32"], default="fp16", help="how weights are stored (default: fp16)")
    parser.add_argument("--vae-fp16-safe", action="store_true", help="the VAE is one that was corrected for half precision")
    parser.add_argument("--prediction", choices=["epsilon", "v_prediction"], default=None, help="where the file does not tell")
    parser.add_argument("--zero-terminal-snr", action="store_true", default=None, help="it was trained to the end of the noise (ztsnr)")
    parser.add_argument("--steps", type=int, default=None, help="steps that it is made for (default: by its kind)")
    parser.add_argument(
        "--native-size", type=int, default=None, metavar="PIXELS", help="side of its square (default: 1024, or the folder's)"
    )
    parser.add_argument("--license", default="", help="what the manifest says of its license")
    parser.add_argument(
        "--tokenizer", type=Path, default=None, help="a tokenizer.json, a folder with vocab.json and merges.txt, or CLIP's vocabulary"
    )
    parser.add_argument("--lines", action="store_true", help=argparse.SUPPRESS)


def _say(said: Dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


def run(options: argparse.Namespace) -> str:
    """Imports; returns an error's sentence, or an empty text."""
    try:
        from gpu_inference.importing.convert import Wishes, import_model
        from gpu_inference.importing.source import CannotImport
    except ImportError as error:
        return f"Importing needs the package {error.name}, which is not installed; with fleet-worker's whole requirements it is."
    for name, value, low, high in (("steps", options.steps, 1, 150), ("native-size", options.native_size, 64, 4096)):
        if value is not None and not low <= value <= high:
            return f"--{name} must be {low} to {high}, and {value} was given."
    wishes = Wishes(
        precision=options.precision, vae_half=options.vae_fp16_safe, prediction_type=options.prediction,
        zero_terminal_snr=options.zero_terminal_snr, steps=options.steps,
        native_size=options.native_size, license=options.license[:200], tokenizer=options.tokenizer,
    )  # fmt: skip

    def progress(done: int, total: int, what: str) -> None:
        if options.lines:
            _say({"done": done, "all": total, "what": what})
        elif sys.stderr.isatty():
            print(f"\r{done}/{total} {what:20}", end="", file=sys.stderr, flush=True)

    try:
        folder = import_model(options.checkpoint, options.name or options.out.name, options.out, wishes, progress)
    except CannotImport as error:
        return str(error)
    except MemoryError:
        return "There is not enough memory to import this checkpoint."
    if not options.lines:
        if sys.stderr.isatty():
            print(file=sys.stderr)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f'{folder}: {size / 2**20:,.0f} MiB; try: fleet-worker render "a lighthouse" --model {folder} -o out.png')
    return ""
