"""``fleet outputs``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, err, fail, print_json, print_table, say

app = typer.Typer(
    no_args_is_help=True, help="Finished pictures: find them, bring them here, and keep them in the S3 store.",
    epilog="Examples: fleet outputs list -q fox --starred; fleet outputs get image_….png; fleet outputs sync",
)  # fmt: skip

Filename = Annotated[str, typer.Argument(help="Its name, as 'fleet outputs list' shows it", metavar="NAME")]
Filenames = Annotated[list[str], typer.Argument(help="Names, as 'fleet outputs list' shows them", metavar="NAME...")]


@app.command("stats", epilog="Example: fleet outputs stats")
def stats(url: Url = None, as_json: Json = False) -> None:
    """Show how much is in the local folder and in the S3 store, and whether the store answers."""
    with calling(url) as client:
        answer = client.output_stats()
    if as_json:
        print_json(answer)
        return
    for name, place in (("local", answer["local"]), ("s3", answer["s3"]), ("not sent", answer["unsynced"])):
        say(f"{name:10}{place['count']:>10,} files {_size(place['bytes']):>10}")
    store = answer["store"]
    say(f"store     {store['status']}" + (f": {store['detail']}" if store["detail"] else f" at {store['endpoint']}"))
    say(f"last sync {answer['last_sync'] or 'never'}")
    if progress := answer["progress"]:
        say(f"now       {progress['doing']}, {progress['done']:,} of {progress['total']:,}")


@app.command("list", epilog="Examples: fleet outputs list -q 'red fox' --model fleet-shapes; fleet outputs list --deleted")
def listed(
    q: Annotated[str | None, typer.Option("--query", "-q", help="Words of the prompt, or how they begin")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model")] = None,
    lora: Annotated[str | None, typer.Option(help="Only those of this LoRA")] = None,
    node: Annotated[str | None, typer.Option(help="Only those of this node")] = None,
    since: Annotated[datetime | None, typer.Option(help="Made then or later (UTC)")] = None,
    until: Annotated[datetime | None, typer.Option(help="Made before (UTC)")] = None,
    starred: Annotated[bool, typer.Option("--starred", help="Only those with a star")] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="What is in the bin")] = False,
    limit: Annotated[int, typer.Option(help="How many, 1 to 500")] = 20,
    cursor: Annotated[int | None, typer.Option(help="Where the page before has ended")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show outputs, newest first."""
    wanted: dict[str, Any] = {
        "q": q, "model": model, "lora": lora, "node": node, "since": _utc(since), "until": _utc(until), "starred": starred or None,
        "deleted": deleted or None, "limit": limit, "cursor": cursor,
    }  # fmt: skip
    with calling(url) as client:
        page = client.gallery(**wanted)
    if as_json:
        print_json(page)
        return
    rows = [
        [each["filename"], each["created_at"][:19], each["node_id"] or "-", each["model"] or "-", "*" if each["starred"] else "",
         each["prompt"][:60]]
        for each in page["images"]
    ]  # fmt: skip
    print_table(["NAME", "MADE", "NODE", "MODEL", "", "PROMPT"], rows, "There are no such outputs.")
    if page["next"]:
        say(f"{page['total']:,} in all; the next page: --cursor {page['next']}")


@app.command("show", epilog="Example: fleet outputs show image_….png")
def show(filename: Filename, url: Url = None) -> None:
    """Print everything that is known of an output, as JSON."""
    with calling(url) as client:
        print_json(client.output_detail(filename))


@app.command("get", epilog="Examples: fleet outputs get image_….png -o fox.png; fleet outputs get A B -o both.zip")
def get(
    filenames: Filenames,
    target: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; for several, a zip archive")] = None,
    url: Url = None,
) -> None:
    """Bring an output here, or several as a zip archive."""
    if len(filenames) > 1 and target is None:
        fail("Name the archive: --output pictures.zip.", exit_codes.USAGE)
    path = target or Path(Path(filenames[0]).name or "output")
    with calling(url) as client:
        try:
            size = client.save_outputs(filenames, path) if len(filenames) > 1 else client.save_output(filenames[0], path)
        except OSError as error:
            fail(f"{path} cannot be written: {error.strerror or error}.", exit_codes.REFUSED)
    say(f"{path}: {_size(size)}")


@app.command("sync", epilog="Example: fleet outputs sync")
def sync(url: Url = None, as_json: Json = False) -> None:
    """Send what the S3 store lacks, and wait for it. It happens by itself every 15 minutes."""
    with calling(url) as client:
        answer = client.sync_outputs()
    if as_json:
        print_json(answer)
    else:
        say(f"{answer['uploaded']:,} sent ({_size(answer['bytes'])}), {answer['skipped']:,} were there, {answer['failed']:,} failed")
    _say_why(answer)


@app.command("cleanup", epilog="Examples: fleet outputs cleanup --dry-run; fleet outputs cleanup --max-age-hours 1")
def cleanup(
    max_age_hours: Annotated[float, typer.Option(help="Only files older than this")] = 24,
    dry_run: Annotated[bool, typer.Option("--dry-run", "--check", help="Say what would be deleted, and delete nothing")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete local files whose copies in the S3 store were read back and fit. It happens by itself every hour."""
    with calling(url) as client:
        answer = client.clean_outputs(max_age_hours, dry_run)
    if as_json:
        print_json(answer)
    else:
        word = "would be deleted" if dry_run else "deleted"
        say(f"{answer['deleted']:,} {word} ({_size(answer['freed_bytes'])}), {answer['kept_unsynced']:,} kept")
    _say_why(answer)


@app.command("move", epilog="Example: fleet outputs move")
def move(url: Url = None, as_json: Json = False) -> None:
    """Send every output to the S3 store and free the local folder."""
    with calling(url) as client:
        answer = client.move_outputs()
    if as_json:
        print_json(answer)
    else:
        here = f"{answer['deleted']:,} deleted here ({_size(answer['freed_bytes'])})"
        say(f"{answer['uploaded']:,} sent, {here}, {answer['kept_unsynced']:,} kept")
    _say_why(answer)


@app.command("star", epilog="Examples: fleet outputs star image_….png; fleet outputs star image_….png --off")
def star(filename: Filename, off: Annotated[bool, typer.Option("--off", help="Take the star")] = False, url: Url = None) -> None:
    """Give an output a star, or take it."""
    with calling(url) as client:
        client.star_output(filename, not off)
    say(f"{filename}: {'no star' if off else 'has a star'}")


@app.command("delete", epilog="Examples: fleet outputs delete image_….png; fleet outputs delete image_….png --now")
def delete(
    filenames: Filenames, now: Annotated[bool, typer.Option("--now", help="For good, in the S3 store too")] = False, url: Url = None
) -> None:
    """Put outputs into the bin, from which they go after a day."""
    with calling(url) as client:
        for filename in filenames:
            client.delete_output(filename, now)
            say(f"{filename}: deleted" + ("" if now else f"; to undo it: fleet outputs restore {filename}"))


@app.command("restore", epilog="Example: fleet outputs restore image_….png")
def restore(filenames: Filenames, url: Url = None) -> None:
    """Take outputs out of the bin."""
    with calling(url) as client:
        for filename in filenames:
            client.restore_output(filename)
            say(f"{filename}: restored")


def _say_why(answer: dict[str, Any]) -> None:
    if answer["detail"]:
        err.print(f"fleet: {answer['detail']}", markup=False, soft_wrap=True)
        raise typer.Exit(exit_codes.REFUSED)


def _utc(moment: datetime | None) -> str | None:
    return f"{moment.isoformat()}Z" if moment else None


def _size(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
