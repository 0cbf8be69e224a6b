"""The command ``fleet-worker``."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys
from pathlib import Path
from typing import List, Optional

from gpu_inference import __version__
from gpu_inference.agent import logs, service
from gpu_inference.agent.files import StateDirLocked
from gpu_inference.agent.identity import NoIdentity
from gpu_inference.agent.settings import BUILTIN, BUILTIN_MODELS, PREFIX, Settings, SettingsError, load_settings
from gpu_inference.building import command as building
from gpu_inference.importing import command as importing

EXIT_SETTINGS, EXIT_IDENTITY, EXIT_LOCKED, EXIT_RENDER, EXIT_INTERRUPTED = 2, 3, 4, 5, 130

EXAMPLES = """examples:
  FLEET_AGENT_URL=http://127.0.0.1:8765 FLEET_AGENT_TOKEN_FILE=token fleet-worker run
  fleet-worker render "a red circle on a blue background" -o out.png
  fleet-worker render "a green square" --size 512x512 --steps 20 --seed 7 --scheduler dpm++_2m -o out.png
  fleet-worker render --like out.png -o again.png
  fleet-worker import sdxl-base.safetensors --out models/sdxl-base
  fleet-worker engines build models/sdxl-base
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fleet-worker",
        description="What runs on a node of a fleet: an agent that leases jobs, and an engine that makes pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version="fleet-worker " + __version__)
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.required = True
    commands.add_parser("run", help=f"serve a control plane; settings are {PREFIX}* in the environment")
    render = commands.add_parser("render", help="make one picture here, without a control plane")
    render.add_argument("prompt", nargs="?", default="", help="what to show")
    render.add_argument("-o", "--output", type=Path, required=True, help="the PNG to write")
    render.add_argument("--negative", default=None, metavar="TEXT", help="what not to show")
    render.add_argument("--size", default=None, metavar="WxH", help="pixels, such as 512x512 (default: 1024x1024)")
    render.add_argument("--steps", type=int, default=None, help="1 to 150 (default: 20)")
    render.add_argument("--guidance", type=float, default=None, help="0 to 30 (default: the model's own)")
    render.add_argument("--seed", type=int, default=None, help="0 to 2^63 - 1 (default: drawn)")
    render.add_argument("--scheduler", default=None, help="a sampler; a wrong name lists them all (default: euler)")
    render.add_argument("--lora", default=None, metavar="NAME", help="a LoRA of the model (default: none)")
    render.add_argument("--lora-strength", type=float, default=None, help="-4 to 4 (default: 0.8)")
    render.add_argument("--model", type=Path, default=None, metavar="FOLDER", help="a model or a folder of models, or 'builtin'")
    render.add_argument("--threads", type=int, default=0, help="threads to compute with (default: one a core)")
    render.add_argument("--like", type=Path, default=None, metavar="PNG", help="take what is not given here from this picture")
    for name, module, says in (
        ("import", importing, "make a model folder of a checkpoint of SDXL; no torch is needed"),
        ("engines", building, "build, list and remove engines of TensorRT"),
    ):
        command = commands.add_parser(name, help=says, epilog=module.EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(command)
    return parser


def _run(settings: Settings) -> int:
    logs.configure(settings.log)
    for name in ("TOKEN", "TOKEN_FILE"):
        os.environ.pop(PREFIX + name, None)
    try:
        asyncio.run(service.run(settings))
    except (NoIdentity, SettingsError) as error:
        logs.error(str(error))
        return EXIT_IDENTITY
    except StateDirLocked as error:
        logs.error(str(error))
        return EXIT_LOCKED
    return 0


def main(arguments: Optional[List[str]] = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    if options.command == "run":
        return _run(settings)
    # Only here is an engine imported: the agent's process never gets this far.
    try:
        error_text = _work(options, settings)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if error_text:
        print(error_text, file=sys.stderr)
        return EXIT_RENDER
    return 0


def _work(options: argparse.Namespace, settings: Settings) -> str:
    """Does what needs no control plane; returns an error's sentence, or an empty text."""
    if options.command == "import":
        return importing.run(options)
    if options.command == "engines":
        return building.run(options, settings)
    from gpu_inference.engine.standalone import render_file

    if options.model is not None:
        folder = BUILTIN_MODELS if str(options.model) == BUILTIN else options.model
        settings = dataclasses.replace(settings, models=(folder,))
    return render_file(options, settings.models, settings.backend)
