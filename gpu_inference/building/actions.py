"""What ``fleet-worker engines`` does."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import List, Sequence

from gpu_inference.agent.cache import library_of
from gpu_inference.agent.settings import PICTURES_SETTING, PLANS_SETTING, Settings
from gpu_inference.building.build import Progress, build_engines, calibrate, wanted_engines
from gpu_inference.building.calibration import PROMPTS
from gpu_inference.building.plans import PlanStore, default_store
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import BackendError, EngineError, LoraError
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.parent import die_with_parent
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import DEFAULT_LORA_STRENGTH


def _catalogue(model: str, settings: Settings) -> Catalogue:
    given = Path(model)
    return Catalogue([given] if given.is_dir() else list(settings.models), Pipeline.load, library_of(settings.cache_dir))


def _folder(model: str, catalogue: Catalogue) -> ModelFolder:
    """The model that is meant. Raises :class:`BackendError` where there is none."""
    folder = next(iter(catalogue.folders.values()), None) if Path(model).is_dir() else catalogue.folders.get(model)
    if folder is None:
        raise BackendError("There is no model '{:.100}' here; there are: {}.".format(model, ", ".join(catalogue.folders) or "none"))
    return folder


def _loras(words: List[str], model: str, catalogue: Catalogue) -> List[Applied]:
    """LoRAs as ``name`` or ``name:strength``. Raises :class:`LoraError`."""
    found = []
    for word in words:
        name, _, strength = word.partition(":")
        lora = catalogue.loras.get(name)
        if lora is None or lora.base_model != model:
            there = [each.name for each in catalogue.loras.values() if each.base_model == model]
            raise LoraError("There is no LoRA '{:.100}' of {} here; there are: {}.".format(name, model, ", ".join(there) or "none"))
        try:
            found.append(Applied(lora, float(strength or DEFAULT_LORA_STRENGTH)))
        except ValueError:
            raise LoraError(f"The strength of the LoRA {name} must be a number, and '{strength:.40}' was given.") from None
    return found


def _teller(lines: bool) -> Progress:
    def progress(done: int, total: int, what: str) -> None:
        if lines:
            print(json.dumps({"done": done, "all": total, "what": what}), flush=True)
        else:
            print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    return progress


def _build(options: argparse.Namespace, settings: Settings, store: PlanStore) -> None:
    catalogue = _catalogue(options.model, settings)
    folder = _folder(options.model, catalogue)
    loras = _loras(options.lora, folder.name, catalogue)
    with store.alone(), closing(Cuda()) as cuda:
        count = build_engines(folder, store, cuda, _teller(options.lines), loras=loras)
    if not options.lines:
        print(f"{folder.name}: {count} engines built" if count else f"{folder.name}: every engine is there already")


def _calibrate(options: argparse.Namespace, settings: Settings, store: PlanStore) -> None:
    folder = _folder(options.model, _catalogue(options.model, settings))
    prompts: Sequence[str] = PROMPTS
    if options.prompts:
        prompts = [line.strip() for line in Path(options.prompts).read_text(encoding="utf-8").splitlines() if line.strip()]
        if not prompts:
            raise BackendError(f"The file {options.prompts} has no prompts: one is wanted a line.")
    with store.alone(), closing(Cuda()) as cuda:
        calibrate(folder, store, cuda, prompts, _teller(False))
    print(
        f"{folder.name}: its UNet computes in int8 from now on; the other engines are built by 'fleet-worker engines build {options.model}'"
    )


def _wanted(options: argparse.Namespace, settings: Settings, store: PlanStore) -> None:
    catalogue = _catalogue(options.model, settings)
    folder = _folder(options.model, catalogue)
    loras = _loras(options.lora, folder.name, catalogue)
    with closing(Cuda()) as cuda:
        for path, said in wanted_engines(folder, store, cuda, loras):
            print(json.dumps({"key": path.stem, "there": path.is_file(), "said": said}), flush=True)


WORK = {"build": _build, "calibrate": _calibrate, "wanted": _wanted}


def _work(options: argparse.Namespace, settings: Settings, store: PlanStore) -> str:
    try:
        WORK[options.action](options, settings, store)
    except EngineError as error:
        return str(error)
    except ImportError as error:
        return f"Building engines needs the package {error.name}, which is not installed; JetPack has it as python3-libnvinfer."
    except BlockingIOError:
        return f"Engines are being built in {store.folder} already; wait for that to end."
    except OSError as error:
        return f"{error.filename or 'The folder of engines'} cannot be read or written ({error.strerror})."
    return ""


def act(options: argparse.Namespace, settings: Settings) -> str:
    """Does it; returns an error's sentence, or an empty text."""
    os.environ.setdefault(PLANS_SETTING, str(settings.plans_dir))
    os.environ.setdefault(PICTURES_SETTING, str(settings.engine_pictures))
    store = default_store(settings.plans_limit)
    if options.action in WORK:
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
        loras = ["{:.8}:{:g}".format(*each) for each in said.get("loras", [])]
        print("{:24} {:16} {:7} {:12}".format(*words), f"{size:8,.0f} MiB", *(["with", *loras] if loras else []))
    if not found:
        print(f"No engines yet in {store.folder}; build them with: fleet-worker engines build MODEL")
    return ""
