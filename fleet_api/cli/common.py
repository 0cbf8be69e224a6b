"""What the commands share: options, output, and errors as one sentence with an exit code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleet_api.cli import exit_codes
from fleet_api.client import FleetClient, FleetClientError, FleetUnreachable

PIPED_WIDTH = 200  # columns where nobody looks at a terminal, so that a line stays a line

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, highlight=False)

Url = Annotated[
    str | None, typer.Option("--url", envvar="FLEET_URL", help="Address of the control plane", show_default="http://127.0.0.1:8765")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs")]


CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a terminal's cursor, sets its title, or turns the direction of what follows; and halves of pairs, which are no text."""


def plain(text: object) -> str:
    """Return text from elsewhere as a terminal may show it: one line, with every control character escaped."""
    return CONTROLS.sub(lambda found: _escaped(found[0]), str(text))


def say(text: object) -> None:
    """Print one line, free of control characters."""
    out.print(plain(text), markup=False, soft_wrap=True)


def fail(sentence: str, code: int) -> NoReturn:
    """Print one sentence to standard error and end."""
    err.print(f"fleet: {plain(sentence)}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def calling(url: str | None, key: str | None = None) -> Iterator[FleetClient]:
    """Give a client, and turn what goes wrong into a sentence and an exit code."""
    try:
        with FleetClient(url, key=key) if key else FleetClient(url) as client:
            yield client
    except FleetUnreachable as error:
        fail(str(error), exit_codes.UNREACHABLE)
    except FleetClientError as error:
        fail(str(error), exit_codes.REFUSED)
    except UnicodeEncodeError as error:
        fail(f"{error.object!r} is not valid Unicode.", exit_codes.USAGE)


def print_json(value: Any) -> None:
    """Print indented JSON, its control characters as JSON escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.write("\n".join(CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n")) + "\n")


def print_table(columns: list[str], rows: list[list[str]], empty: str) -> None:
    """Print a table, or a sentence where there is nothing to show."""
    if not rows:
        out.print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column != columns[-1])
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    out.print(table)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
