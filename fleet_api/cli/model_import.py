"""``fleet models import``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail
from fleet_api.cli.following import follow

EXAMPLES = (
    "Examples: fleet models import sdxl-base.safetensors; fleet models import noobai.safetensors --name noobai --prediction v_prediction;"
    " fleet models import my-upload --name sdxl-base   (a checkpoint that is in the store)"
)
ENDING = ".checkpoint"
"""Of the name under which a file's own upload is stored; the model takes the plain name."""


def import_(
    checkpoint: Annotated[str, typer.Argument(help="A .safetensors file, or the name of a checkpoint in the store", metavar="CHECKPOINT")],
    name: Annotated[str | None, typer.Option(help="How jobs will name the model", show_default="the file's name")] = None,
    precision: Annotated[str, typer.Option(help="How weights are stored: fp16 or fp32")] = "fp16",
    prediction: Annotated[str | None, typer.Option(help="epsilon or v_prediction", show_default="what the file says")] = None,
    zero_terminal_snr: Annotated[bool, typer.Option("--zero-terminal-snr", help="It was trained to the end of the noise (ztsnr)")] = False,
    steps: Annotated[int | None, typer.Option(help="Steps that it is made for", show_default="by its kind")] = None,
    native_size: Annotated[int | None, typer.Option(help="Side of its square in pixels", show_default="1024")] = None,
    license_: Annotated[str | None, typer.Option("--license", help="What is said of its license", show_default=False)] = None,
    vae_fp16_safe: Annotated[bool, typer.Option("--vae-fp16-safe", help="Its VAE was corrected for half precision")] = False,
    keep_source: Annotated[bool, typer.Option("--keep-source", help="Keep the checkpoint in the store too")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make of a checkpoint of SDXL a model that nodes run: uploaded, converted on the control plane, fetched as jobs want it."""
    from fleet_api.cli.model_store import send_file

    file = Path(checkpoint)
    if file.is_dir():
        fail(
            f"{file} is a folder: import it with 'fleet-worker import {file} --out NAME', put the folder NAME into the store's bucket of"
            " models, and run 'fleet models scan'.",
            exit_codes.USAGE,
        )
    local = file.suffix == ".safetensors" and file.is_file()
    if checkpoint.endswith(".safetensors") and not local:
        fail(f"{file}: there is no such file.", exit_codes.USAGE)
    target = name or (file.stem if local else "")
    if not target:
        fail("Say with --name how the model is to be called; the checkpoint in the store has its name already.", exit_codes.USAGE)
    source = target + ENDING if local else checkpoint
    with calling(url) as client:
        known = {each["name"]: each for each in client.models()}
    if target in known:
        fail(f"name: there is a model {target!r} already; delete it first, or choose another with --name.", exit_codes.REFUSED)
    if local and not _is_stored(file, known.get(source)):
        send_file(file, source, url, as_json)
    with calling(url) as client:
        operation = client.import_model(
            source, target, precision=precision, prediction=prediction,
            zero_terminal_snr=zero_terminal_snr, steps=steps, native_size=native_size, license=license_,
            vae_fp16_safe=vae_fp16_safe, keep_source=keep_source or not local,
        )  # fmt: skip
        follow(client, [operation["id"]], as_json)


def _is_stored(file: Path, found: dict[str, Any] | None) -> bool:
    """Say whether an earlier try has stored this very file already."""
    if found is None or found["size_bytes"] != file.stat().st_size:
        return False
    with file.open("rb") as stream:
        return bool(hashlib.file_digest(stream, "sha256").hexdigest() == found["sha256"])
