"""``fleet up`` and ``fleet serve``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from fleet_api.cli import exit_codes
from fleet_api.cli.common import err, fail, out
from fleet_api.errors import Conflict, FleetError
from fleet_api.kit.validation import shown

if TYPE_CHECKING:
    from fleet_api.settings import Settings

EXAMPLES = "Examples: fleet up; FLEET_HOME=/srv/fleet fleet up --port 9000"

Home = Annotated[Path | None, typer.Option("--home", help="Data folder  [default: FLEET_HOME, or ~/.fleet]", show_default=False)]
Port = Annotated[int | None, typer.Option("--port", help="Port of the API  [default: FLEET_PORT, or 8765]", show_default=False)]


def up(home: Home = None, port: Port = None) -> None:
    """Start the control plane and an agent on this machine; Ctrl-C ends both."""
    from fleet_api.supervisor import up as run_up  # here, as the other commands start in a third of the time without it

    settings = _settings(home, port)
    with _explained():
        code = asyncio.run(run_up(settings, lambda text: err.print(f"fleet: {text}", markup=False), _ready))
    if code:
        raise typer.Exit(code)
    out.print("Stopped.")


def serve(home: Home = None, port: Port = None) -> None:
    """Serve the API alone, without an agent."""
    from fleet_api.server import serve as serve_api

    settings = _settings(home, port)
    with _explained():
        serve_api(settings)


def _ready(url: str) -> None:
    out.print(
        f"""
Fleet Commander is ready on {url}  (API pages: {url}/docs)

Make a picture:
  curl -X POST {url}/api/fleet/generate -H 'Content-Type: application/json' \\
    -d '{{"prompt":"a red circle on a blue background"}}' -o image.png
or
  fleet generate "a red circle on a blue background" -o image.png

Ctrl-C stops it.""",
        markup=False,
        soft_wrap=True,
    )


def _settings(home: Path | None, port: int | None) -> Settings:
    from fleet_api.settings import Settings

    given: dict[str, Any] = {name: value for name, value in (("home", home), ("port", port)) if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "FLEET_" + str(first["loc"][0]).upper()
        fail(f"{name}: {shown(first['input'])} is not allowed; {first['msg'].removeprefix('Value error, ')}.", exit_codes.USAGE)
    except ValueError as error:
        fail(f"fleet.toml cannot be read: {error}.", exit_codes.USAGE)


class _explained:  # noqa: N801 - reads as a word in "with _explained():"
    """Turn expected errors into a sentence and an exit code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Conflict):
            fail(error.detail, exit_codes.CONFLICT)
        if isinstance(error, FleetError):
            fail(error.detail, exit_codes.UNUSABLE)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(exit_codes.INTERRUPTED)
