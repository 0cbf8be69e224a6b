"""Imports a checkpoint into a model folder, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from gpu_inference.engine.errors import ModelError
from gpu_inference.engine.manifest import MANIFEST, Manifest, digest, load_model_folder
from gpu_inference.importing import graphs, tokenizer, usage
from gpu_inference.importing.folder import DiffusersFolder
from gpu_inference.importing.proof import prove
from gpu_inference.importing.single_file import SingleFile
from gpu_inference.importing.source import DECODER, UNET, CannotImport, Source

Progress = Callable[[int, int, str], None]
"""Called with networks done, networks in all, and what is done next."""

STORAGES = {"fp16": "float16", "fp32": "float32"}
_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Wishes:
    """What the caller says of a model that its files do not say; None leaves it to them."""

    precision: str = "fp16"
    """How weights are stored: ``fp16`` or ``fp32``."""

    vae_half: bool = False
    """Whether the decoder may compute in fp16: SDXL's first one gives values too large for it, corrected ones do not."""

    prediction_type: Optional[str] = None
    zero_terminal_snr: Optional[bool] = None
    steps: Optional[int] = None
    native_size: Optional[int] = None
    license: str = ""
    tokenizer: Optional[Path] = None


def _nobody(_done: int, _all: int, _what: str) -> None:
    """Progress that nobody watches."""


def open_source(path: Path) -> Source:
    """Opens a single-file checkpoint or a folder of diffusers. Raises :class:`CannotImport`."""
    if path.is_dir():
        return DiffusersFolder(path)
    if not path.exists():
        raise CannotImport(f"There is no file {path}.")
    return SingleFile(path)


def _plan(source: Source, wishes: Wishes) -> List[Tuple[str, graphs.Draw, List[graphs.Variant], str]]:
    storage, networks = STORAGES[wishes.precision], source.networks
    plan = []
    for name, config in zip(source.encoders, networks.text_encoders):
        plan.append((name, graphs.draw_text_encoder(config), list(graphs.HALVES), storage))
    plan.append((UNET, graphs.draw_unet(networks.unet), list(graphs.HALVES), storage))
    plan.append((DECODER, graphs.draw_decoder(networks.vae_decoder), list(graphs.HALVES if wishes.vae_half else graphs.EXACT), storage))
    return plan


def _part(network: str, variants: List[graphs.Variant]) -> Dict[str, Any]:
    files = {variant.key: network + variant.ending for variant in variants}
    return {**files, "data": f"{network}.weights", "weights": f"{network}.weights.json"}


def _write(source: Source, name: str, folder: Path, wishes: Wishes, progress: Progress) -> None:
    plan = _plan(source, wishes)
    place = wishes.tokenizer or source.tokenizer
    end, size = tokenizer.write(place, folder / _TOKENIZER)
    smallest = min(config.vocabulary for config in source.networks.text_encoders)
    if size > smallest:
        raise CannotImport(f"The tokenizer knows {size} tokens and a text encoder {smallest}: it is not the one of this model.")
    digests: Dict[str, str] = {}
    for done, (network, draw, variants, storage) in enumerate(plan):
        progress(done, len(plan), network)
        digests.update(graphs.write_network(source, network, draw, variants, storage, folder))
    progress(len(plan), len(plan), "proof")
    parts = {network: _part(network, variants) for network, _, variants, _ in plan}
    said = _manifest(source, name, parts, end, wishes)
    said["sha256"] = {path.name: digests.get(path.name) or digest(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(Manifest.model_validate(said).model_dump_json(indent=2) + "\n", encoding="utf-8")


def _manifest(source: Source, name: str, parts: Dict[str, Any], end: int, wishes: Wishes) -> Dict[str, Any]:
    networks, facts = source.networks, source.facts
    facts.prediction_type = wishes.prediction_type or facts.prediction_type
    if wishes.zero_terminal_snr is not None:
        facts.zero_terminal_snr = wishes.zero_terminal_snr
    facts.native_size = wishes.native_size or facts.native_size
    factor = 2 ** (len(networks.vae_decoder.widths) - 1)
    said = usage.figures(facts, networks.unet.time_ids, factor * 2 ** (len(networks.unet.widths) - 1))
    encoders = []
    for encoder, config, pad in zip(source.encoders, networks.text_encoders, facts.pads):
        pooled = {"pooled_output": "text_embeds" if config.projected else None}
        encoders.append({**parts[encoder], **pooled, "hidden_output": "hidden_states", "pad_token_id": end if pad is None else pad})
    return {
        "format": 1,
        "name": name,
        "version": "1",
        "license": wishes.license or facts.license,
        **said,
        "default_steps": wishes.steps or said["default_steps"],
        "latent_channels": networks.vae_decoder.latent_channels,
        "vae_scale_factor": factor,
        "vae_scaling_factor": facts.scaling_factor,
        "tokenizer": {"file": _TOKENIZER, "max_length": networks.text_encoders[0].length},
        "text_encoders": encoders,
        "unet": parts[UNET],
        "vae_decoder": parts[DECODER],
        "networks": networks.model_dump(),
    }


def import_model(path: Path, name: str, target: Path, wishes: Optional[Wishes] = None, progress: Progress = _nobody) -> Path:
    """Imports ``path``, a single-file checkpoint or a folder of diffusers, as the folder ``target``; returns it.

    Raises :class:`CannotImport` with one sentence; nothing is left then.
    """
    if target.exists():
        raise CannotImport(f"There is a folder {target.name} already.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".importing-", dir=str(target.parent)))
    except OSError as error:
        raise CannotImport(f"The folder {target} cannot be made ({error.strerror}).") from error
    try:
        _write(open_source(path), name, folder, wishes or Wishes(), progress)
        prove(load_model_folder(folder))
        folder.chmod(0o755)
        os.rename(str(folder), str(target))
    except OSError as error:
        raise CannotImport(f"The model cannot be written to {target.name} ({error.strerror}).") from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # of what lies in the file, whatever it is
        said = " ".join(str(error).split())[:200].replace(str(folder), "")
        raise CannotImport(f"{path.name} is not laid out as SDXL is ({said}).") from error
    except ModelError as error:
        raise CannotImport(str(error)) from error
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
    return target
