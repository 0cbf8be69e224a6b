"""What ``fleet-worker engines`` does."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import closing
from pathlib import Path

from gpu_inference.agent.cache import library_of
from gpu_inference.agent.settings import PLANS_SETTING, Settings
from gpu_inference.building.build import build_engines, wanted_engines
from gpu_inference.building.plans import PlanStore, default_store
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import BackendError, EngineError
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.parent import die_with_parent
from gpu_inference.engine.pipeline import Pipeline


def _folder(model: str, settings: Settings) -> ModelFolder:
    """The model that is meant. Raises :class:`BackendError` where there is none."""
    given = Path(model)
    catalogue = Catalogue([given] if given.is_dir() else list(settings.models), Pipeline.load, library_of(settings.cache_dir))
    folder = next(iter(catalogue.folders.values()), None) if given.is_dir() else catalogue.folders.get(model)
    if folder is None:
        raise BackendError("There is no model '{:.100}' here; there are: {}.".format(model, ", ".join(catalogue.folders) or "none"))
    return folder


def _build(folder: ModelFolder, store: PlanStore, lines: bool) -> None:
    def progress(done: int, total: int, what: str) -> None:
        if lines:
            print(json.dumps({"done": done, "all": total, "what": what}), flush=True)
        else:
            print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    with closing(Cuda()) as cuda:
        count = build_engines(folder, store, cuda, progress)
    if not lines:
        print(f"{folder.name}: {count} engines built" if count else f"{folder.name}: every engine is there already")


def _wanted(folder: ModelFolder, store: PlanStore) -> None:
    with closing(Cuda()) as cuda:
        for path, said in wanted_engines(folder, store, cuda):
            print(json.dumps({"key": path.stem, "there": path.is_file(), "said": said}), flush=True)


def _work(options: argparse.Namespace, settings: Settings, store: PlanStore) -> str:
    try:
        folder = _folder(options.model, settings)
        if options.action == "build":
            _build(folder, store, options.lines)
        else:
            _wanted(folder, store)
    except EngineError as error:
        return str(error)
    except ImportError as error:
        return f"Building engines needs the package {error.name}, which is not installed; JetPack has it as python3-libnvinfer."
    except OSError as error:
        return f"The engines cannot be written ({error.strerror})."
    return ""


def act(options: argparse.Namespace, settings: Settings) -> str:
    """Does it; returns an error's sentence, or an empty text."""
    os.environ.setdefault(PLANS_SETTING, str(settings.plans_dir))
    store = default_store(settings.plans_limit)
    if options.action in ("build", "wanted"):
        if options.parent:
            die_with_parent(options.parent)
        return _work(options, settings, store)
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
