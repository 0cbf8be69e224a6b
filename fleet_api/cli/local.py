"""What commands share that work on the data folder itself, whether or not the API runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from fleet_api.cli import exit_codes
from fleet_api.cli.common import fail
from fleet_api.errors import Conflict, FleetError, HomeBusy, InvalidValue, NotFound, PortBusy
from fleet_api.kit.validation import sentence, shown

if TYPE_CHECKING:
    from fleet_api.kit.db import Database
    from fleet_api.settings import Settings

T = TypeVar("T")

Home = Annotated[Path | None, typer.Option("--home", help="Data folder  [default: FLEET_HOME, or ~/.fleet]", show_default=False)]
Port = Annotated[int | None, typer.Option("--port", help="Port of the API  [default: FLEET_PORT, or 8765]", show_default=False)]
Host = Annotated[
    str | None,
    typer.Option("--host", help="Address to listen on, 0.0.0.0 for all  [default: FLEET_HOST, or 127.0.0.1]", show_default=False),
]


def settings_of(home: Path | None, port: int | None = None, host: str | None = None) -> Settings:
    """Return the settings, or end with a sentence."""
    from fleet_api.settings import Settings  # here, as most commands start in a third of the time without it

    given: dict[str, Any] = {name: value for name, value in (("home", home), ("port", port), ("host", host)) if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "FLEET_" + str(first["loc"][0]).upper()
        fail(f"{name}: {shown(first['input'])} is not allowed; {first['msg'].removeprefix('Value error, ')}.", exit_codes.USAGE)
    except ValueError as error:
        fail(f"fleet.toml cannot be read: {error}.", exit_codes.USAGE)


def checked(model: type[BaseModel], **values: Any) -> None:
    """End with a sentence unless the API would take these values too."""
    try:
        model(**values)
    except ValidationError as error:
        fail(sentence(error.errors(), model.model_fields), exit_codes.USAGE)


def with_database(settings: Settings, work: Callable[[Database], Awaitable[T]], row: str = "", path: Callable[[Any], str] = str) -> T:
    """Run ``work`` on the data folder's database, made if it is not there yet.

    With a ``row``, such as "fleet keys create", what it writes is in the audit log; ``path`` tells from the write's result what it hit.
    """
    from fleet_api.cli.audited import AuditedDatabase
    from fleet_api.kit.db import Database
    from fleet_api.kit.home import make
    from fleet_api.migrate import upgrade

    async def run() -> T:
        db = AuditedDatabase(settings.database, row, path) if row else Database(settings.database)
        try:
            return await work(db)
        finally:
            await db.close()

    with explained():
        make(settings.home)
        upgrade(settings.database)
        return asyncio.run(run())


class explained:  # noqa: N801 - reads as a word in "with explained():"
    """Turn expected errors into a sentence and an exit code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, HomeBusy | PortBusy):
            fail(error.detail, exit_codes.CONFLICT)
        if isinstance(error, Conflict | NotFound):
            fail(error.detail, exit_codes.REFUSED)
        if isinstance(error, InvalidValue):
            fail(error.detail, exit_codes.USAGE)
        if isinstance(error, FleetError):
            fail(error.detail, exit_codes.UNUSABLE)
        if isinstance(error, OSError):
            fail(f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror or error}.", exit_codes.UNUSABLE)
        if isinstance(error, UnicodeEncodeError):
            fail(f"{error.object!r} is not valid Unicode.", exit_codes.USAGE)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(exit_codes.INTERRUPTED)
