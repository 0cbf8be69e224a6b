"""``fleet generate``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, err, fail, plain, print_json, say
from fleet_api.client import FleetClient, FleetClientError, FleetUnreachable

EXAMPLES = (
    "Examples: fleet generate 'a red circle on a blue background' -o out.png; "
    "fleet generate 'a white star on a black background' --seed 7 --width 512 --height 512; "
    "fleet generate 'a white star on a pink background' --lora night; "
    "fleet generate 'a lighthouse' --model sdxl-base --lora ink:0.6 --lora film:0.3"
)


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write  [default: the output's own name]")] = None,
    negative: Annotated[str | None, typer.Option("--negative", help="What to avoid")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels, 64 to 2048 in multiples of 8  [default: 1024]")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels, 64 to 2048 in multiples of 8  [default: 1024]")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 to 150  [default: 20]")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale, 0 to 30  [default: the model's own]")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture  [default: random]")] = None,
    model: Annotated[str | None, typer.Option(help="Model name  [default: the fleet's default model]")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Sampler  [default: euler]")] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(help="A LoRA of the model: night, or night:0.5; may be given again", show_default=False),
    ] = None,
    lora_strength: Annotated[float | None, typer.Option(help="Of those without their own, -4 to 4  [default: 0.8]")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first  [default: 0]")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the file")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a picture: queue it, show its progress, write the PNG. Ctrl-C cancels the job."""
    if output is not None:
        _check_output(output, force)
    with calling(url) as client:
        first, *more = loras_of(lora or [], lora_strength) or [{}]
        job = client.generate(
            prompt, negative_prompt=negative, width=width, height=height, steps=steps, guidance_scale=guidance, seed=seed, model=model,
            scheduler=scheduler, priority=priority, lora=first.get("name"), lora_strength=first.get("strength"), loras=more or None,
        )  # fmt: skip
        try:
            ended = _follow(client, job["job_id"], quiet=as_json)
        except KeyboardInterrupt:
            with contextlib.suppress(FleetClientError, FleetUnreachable):
                client.cancel(job["job_id"])
            fail("Stopped; the job was cancelled.", exit_codes.INTERRUPTED)
        if ended["status"] != "completed":
            if as_json:
                print_json(ended)
            fail(f"The job {ended['status']}: {ended.get('error') or 'no reason was given'}", exit_codes.FAILED)
        result = ended["result"]
        path = output or Path(result["image_url"].rsplit("/", 1)[-1])
        _check_output(path, force)
        data = client.output(result["image_url"])
        try:
            path.write_bytes(data)
        except OSError as error:
            fail(f"{path} cannot be written: {error.strerror}; the picture is at {client.url}{result['image_url']}.", exit_codes.FAILED)
    if as_json:
        print_json({**ended, "file": str(path)})
        return
    say(f"{path}: seed {result['seed']}, {result['generation_time']:.2f} s on {result['node_id']}")
    for warning in result.get("warnings", []):
        say(f"  note: {warning}")


def loras_of(words: list[str], usual: float | None) -> list[dict[str, Any]]:
    """Return names and strengths; a strength follows its name after a colon, which no name has."""
    found = []
    for word in words:
        name, colon, strength = word.partition(":")
        try:
            value = float(strength) if colon else usual
        except ValueError:
            fail(f"--lora {word}: a strength is a number, as in {name}:0.5.", exit_codes.USAGE)
        found.append({"name": name, **({} if value is None else {"strength": value})})
    return found


def _check_output(path: Path, force: bool) -> None:
    if path.is_dir():
        fail(f"{path} is a folder; name a file.", exit_codes.USAGE)
    if path.exists() and not force:
        fail(f"{path} is there already; use --force to overwrite it, or another name.", exit_codes.USAGE)
    if not path.parent.is_dir():
        fail(f"The folder {path.parent} is not there.", exit_codes.USAGE)


def _follow(client: FleetClient, job_id: str, quiet: bool) -> dict[str, Any]:
    job: dict[str, Any] = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task("queued", total=100)
        for job in client.follow(job_id):
            if job["status"] == "queued":
                position = job.get("queue_position")
                bar.update(task, description=f"queued, {position} in line" if position else "queued", completed=0)
            else:
                where = plain(f"{job['status']} on {job.get('node_id', 'a node')}")
                bar.update(task, description=where, completed=job.get("progress") or 0)
    return job
