"""``fleet models upload``, ``delete``, ``list``, ``scan``: the model store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, err, fail, print_json, print_table, say

UPLOAD_EXAMPLES = (
    "Examples: fleet models upload sdxl.safetensors --name sdxl-base; fleet models upload night.safetensors --lora --base sdxl"
)
DELETE_EXAMPLES = "Examples: fleet models delete sdxl-base; fleet models delete night --lora"
LIST_EXAMPLES = "Examples: fleet models list; fleet models list --loras --json"
SCAN_EXAMPLES = "Example: fleet models scan"
Lora = Annotated[bool, typer.Option("--lora", help="It is a LoRA")]


def upload(
    file: Annotated[Path, typer.Argument(help="A .safetensors file", metavar="FILE")],
    name: Annotated[str | None, typer.Option(help="How jobs will name it", show_default="the file's name")] = None,
    base: Annotated[str | None, typer.Option(help="The model that a LoRA changes", show_default="what the file says")] = None,
    source: Annotated[str | None, typer.Option(help="Where it came from, in your words", show_default=False)] = None,
    lora: Lora = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Upload a model, or a LoRA, to the store. If it is cut off, the same command goes on where it was."""
    done = send_file(file, name or file.stem, url, as_json, lora, base, source)
    if as_json:
        print_json(done)
        return
    say(f"Stored {'LoRA' if lora else 'model'} {done['name']}, {done['size']:,} bytes, SHA-256 {done['sha256']}.")
    if done["note"]:
        say(done["note"])


def send_file(
    file: Path, name: str, url: str | None, quiet: bool, lora: bool = False, base: str | None = None, source: str | None = None
) -> dict[str, Any]:
    """Upload a file with a bar of progress; return what was stored. Ends the command where it fails."""
    from fleet_api.uploading import upload as send

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=err,
        disable=quiet or not err.is_terminal, transient=True,
    )  # fmt: skip
    try:
        size = file.stat().st_size
        with calling(url) as client, bar:
            task = bar.add_task("reading", total=size)
            return send(client, file, name, lora, base, source, lambda what, there: bar.update(task, description=what, completed=there))
    except OSError as error:
        fail(f"{file}: {error.strerror or error}", exit_codes.USAGE)
    except KeyboardInterrupt:
        fail("Stopped; the same command goes on where it was, within a day.", exit_codes.INTERRUPTED)


def delete(
    name: Annotated[str, typer.Argument(help="Its name", metavar="NAME")],
    lora: Lora = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete a model, or a LoRA, from the store; nodes drop their copies."""
    with calling(url) as client:
        done = client.delete_model(name, lora)
    if as_json:
        print_json(done)
        return
    say(f"Deleted {name}.")


def show(
    loras: Annotated[bool, typer.Option("--loras", help="LoRAs instead of models")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show models, or LoRAs: their size, whether they are stored, and which nodes have them on disk."""
    with calling(url) as client:
        found = client.loras() if loras else client.models()
    if as_json:
        print_json(found)
        return
    rows = [
        [each["name"], each["size"], each["base"] or "-", "yes" if each["stored"] else "", ", ".join(each["on_nodes"]) or "-", each["note"]]
        for each in found
    ]
    print_table(["NAME", "SIZE", "BASE", "STORED", "ON NODES", "NOTE"], rows, "None yet.")


def scan(url: Url = None, as_json: Json = False) -> None:
    """Find models that were put straight into the store's buckets, or taken out of them."""
    with calling(url) as client:
        done = client.scan_models()
    if as_json:
        print_json(done)
        return
    rows = [[name, "listed", ""] for name in done["found"]] + [[name, "gone", ""] for name in done["gone"]]
    rows += [[each["name"], "refused", each["reason"]] for each in done["refused"]]
    print_table(["NAME", "WHAT", "WHY"], rows, "Nothing has changed.")
