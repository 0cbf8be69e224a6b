"""``fleet-worker engines``: build, list and remove the engines of TensorRT on this node."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gpu_inference.agent.cache import library_of
from gpu_inference.agent.settings import PLANS_SETTING, Settings

EXAMPLES = """examples:
  fleet-worker engines build models/sdxl-base
  fleet-worker engines list
  fleet-worker engines remove sdxl-base
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    commands = parser.add_subparsers(dest="action", metavar="action")
    commands.required = True
    build = commands.add_parser("build", help="build the engines of a model that are not there yet; takes minutes")
    build.add_argument("model", help="a model's folder, or the name of one of the agent's models")
    commands.add_parser("list", help="show what was built")
    remove = commands.add_parser("remove", help="remove the engines of a model")
    remove.add_argument("model", help="a model's name")


def _build(model: str, settings: Settings) -> str:
    from gpu_inference.building.build import build_engines
    from gpu_inference.building.plans import default_store
    from gpu_inference.engine.backends.cudart import Cuda
    from gpu_inference.engine.catalogue import Catalogue
    from gpu_inference.engine.errors import EngineError
    from gpu_inference.engine.pipeline import Pipeline

    def progress(done: int, total: int, what: str) -> None:
        print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    given = Path(model)
    catalogue = Catalogue([given] if given.is_dir() else list(settings.models), Pipeline.load, library_of(settings.cache_dir))
    folder = next(iter(catalogue.folders.values()), None) if given.is_dir() else catalogue.folders.get(model)
    if folder is None:
        return "There is no model '{:.100}' here; there are: {}.".format(model, ", ".join(catalogue.folders) or "none")
    try:
        cuda = Cuda()
        try:
            count = build_engines(folder, default_store(), cuda, progress)
        finally:
            cuda.close()
    except EngineError as error:
        return str(error)
    except ImportError as error:
        return f"Building engines needs the package {error.name}, which is not installed; JetPack has it as python3-libnvinfer."
    except OSError as error:
        return f"The engines cannot be written ({error.strerror})."
    print(f"{folder.name}: {count} engines built" if count else f"{folder.name}: every engine is there already")
    return ""


def run(options: argparse.Namespace, settings: Settings) -> str:
    """Does it; returns an error's sentence, or an empty text."""
    os.environ.setdefault(PLANS_SETTING, str(settings.plans_dir))
    from gpu_inference.building.plans import default_store

    if options.action == "build":
        return _build(options.model, settings)
    store = default_store()
    if options.action == "remove":
        count = store.remove(options.model)
        print(f"{options.model}: {count} engines removed")
        return ""
    found = store.all()
    for said in found:
        size = int(said.get("size", 0)) / 2**20
        words = [str(said.get(name, "?")) for name in ("model", "network", "architecture", "tensorrt")]
        print("{:24} {:16} {:7} {:12}".format(*words), f"{size:8,.0f} MiB")
    if not found:
        print(f"No engines yet in {store.folder}; build them with: fleet-worker engines build MODEL")
    return ""
