"""``fleet backup``: on the data folder itself, whether or not the control plane runs; restoring wants it stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fleet_api.cli.common import Json, print_json, print_table, say
from fleet_api.cli.local import Home, explained, settings_of, with_database

if TYPE_CHECKING:
    from fleet_api.adapters.object_store.types import ObjectStore
    from fleet_api.backups.making import Backups
    from fleet_api.backups.manifest import Manifest
    from fleet_api.kit.db import Database
    from fleet_api.settings import Settings

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Make backups, verify and restore them.", epilog="Example: fleet backup create")

Id = Annotated[str, typer.Argument(help="A backup; 'fleet backup list' shows them", metavar="ID")]
Where = Annotated[str | None, typer.Option("--target", help="Another place than FLEET_BACKUP_TARGET: a folder, or s3://bucket/prefix")]


@app.command(
    "create", epilog="Examples: fleet backup create; fleet backup create --outputs; fleet backup create --with-keys --target /media/safe"
)
def create(
    outputs: Annotated[bool, typer.Option("--outputs", help="Also the finished pictures")] = False,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Also what opens the vault and the authority's key, in the clear; to a folder alone")
    ] = False,
    target: Where = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a backup of database, settings and the sealed vault, read all of it back, and remove the oldest beyond FLEET_BACKUP_KEEP."""
    from fleet_api.backups.schemas import BackupView
    from fleet_api.kit.clock import SystemClock

    settings = settings_of(home)
    made = _with(settings, target, lambda backups: backups.create(SystemClock().now(), outputs, with_keys))
    if as_json:
        print_json(BackupView.of(made).model_dump())
        return
    say(f"{made.id}: {made.count} files, {made.size} bytes, every byte read back")
    for left in made.left_out:
        say(f"Left out: {left}")
    if not with_keys:
        say(f"It opens no secret: keep a copy of {settings.home / 'vault'} and {settings.home / 'tls'} in another place.")


@app.command("list", epilog="Examples: fleet backup list; fleet backup list --json")
def list_(target: Where = None, home: Home = None, as_json: Json = False) -> None:
    """Show the backups, newest first."""
    from fleet_api.backups.schemas import BackupView

    found = [BackupView.of(each) for each in _with(settings_of(home), target, lambda backups: backups.all())]
    if as_json:
        print_json([each.model_dump() for each in found])
        return
    rows = [
        [each.id, each.created_at, str(each.size), "yes" if each.outputs else "-", "yes" if each.keys else "-", each.version]
        for each in found
    ]
    print_table(["BACKUP", "MADE", "BYTES", "OUTPUTS", "KEYS", "VERSION"], rows, "No backups yet. Make one: fleet backup create")


@app.command("verify", epilog="Example: fleet backup verify fleet-20260101T033000Z-9f2c")
def verify(backup_id: Id, target: Where = None, home: Home = None, as_json: Json = False) -> None:
    """Read every byte of a backup and check it."""
    from fleet_api.backups.schemas import BackupView

    found = _with(settings_of(home), target, lambda backups: backups.verify(backup_id))
    print_json(BackupView.of(found).model_dump()) if as_json else say(f"{found.id}: whole, {found.count} files, {found.size} bytes")


@app.command(
    "restore", epilog="Examples: fleet backup restore fleet-20260101T033000Z-9f2c; fleet backup restore /media/safe/fleet-....tar.gz"
)
def restore(
    backup: Annotated[str, typer.Argument(help="A backup's id, or the path of its archive", metavar="ID|ARCHIVE")],
    target: Where = None,
    home: Home = None,
) -> None:
    """Put a backup in the place of what the data folder holds; the control plane must not run. What was there is kept beside it."""
    from fleet_api.backups import restoring

    settings = settings_of(home)
    with explained():
        from fleet_api.kit.home import claim, make

        make(settings.home)
        with claim(settings.home, "up.lock"), claim(settings.home, "api.lock"):
            restoring.apply(settings.home)  # one that was cut off comes to its end first
            if "/" in backup and not backup.startswith("s3://"):
                restoring.stage(settings.home, _from_archive(Path(backup)))
            else:
                _with(
                    settings, target,
                    lambda backups: restoring.stage(settings.home, lambda folder, going: backups.unpack(backup, folder, going)),
                )  # fmt: skip
            plan = restoring.apply(settings.home)
    assert plan is not None
    say(restoring.told(settings.home, plan))


@app.command("cancel", epilog="Example: fleet backup cancel")
def cancel(home: Home = None, as_json: Json = False) -> None:
    """Take back a restore that the control plane's next start would put in place; nothing else changes."""
    from fleet_api.backups import restoring

    with explained():
        plan = restoring.cancel(settings_of(home).home)
    if as_json:
        print_json({"backup_id": plan.backup_id})
        return
    say(f"{plan.backup_id} is not restored; the data folder stays as it is.")


def _from_archive(path: Path) -> Callable[[Path, Callable[[], None]], Manifest]:
    from fleet_api.backups import archive
    from fleet_api.errors import NotFound

    def unpack(folder: Path, going: archive.Going) -> Manifest:
        if not path.is_file():
            raise NotFound(f"There is no file {path}.")
        with path.open("rb") as file:
            return archive.read(archive.chunks_of(file), None, path.name, going, folder)

    return unpack


def _with(settings: Settings, target: str | None, work: Callable[[Backups], T]) -> T:
    """Run ``work`` on the backups; the database is opened only where the vault is wanted for an S3 store."""
    from fleet_api.backups.making import Backups
    from fleet_api.backups.service import target_of
    from fleet_api.backups.targets import check_target
    from fleet_api.logs import configure

    configure("warning")
    with explained():
        if target is not None:
            settings = settings.model_copy(
                update={"backup_target": check_target(target if "://" in target else str(Path(target).absolute()))}
            )
        if not (settings.backup_target or "").startswith("s3://"):
            return work(Backups(settings.home, asyncio.run(target_of(settings, _Store(settings, None))), settings.backup_keep))

    async def at_the_store(db: Database) -> T:
        return work(Backups(settings.home, await target_of(settings, _Store(settings, db)), settings.backup_keep))

    return with_database(settings, at_the_store)


class _Store:
    """The S3 store, opened by the vault of the data folder."""

    def __init__(self, settings: Settings, db: Database | None) -> None:
        self._settings = settings
        self._db = db

    async def s3(self) -> ObjectStore:
        """Return it. Raises Unavailable."""
        from fleet_api.adapters.object_store.s3 import S3Store
        from fleet_api.kit.allowed import AllowedNetworks
        from fleet_api.storage import handing

        assert self._db is not None
        access = await handing.access(self._settings, self._db, "", "", "")
        return S3Store(access, AllowedNetworks(self._settings.s3_networks))
