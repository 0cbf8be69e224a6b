"""Puts a backup in the place of what a data folder holds, in two steps, so that there is never a part of each.

:func:`stage` verifies a backup and unpacks it beside what is in use; the last thing that it writes is the plan. :func:`apply` moves
what is in use into a folder of its own, and what was unpacked into its place, one rename after another. It runs with the control plane
stopped: at the next start, or by the command at once. Killed at any moment, it is finished by the next start: what is still in the
staging folder is still to be done. Where a rename fails for good, what was exchanged is put back, and the plan waits until it is tried
again or cancelled.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ValidationError

from fleet_api.backups import making
from fleet_api.backups.archive import Going
from fleet_api.backups.manifest import DATABASE, BackupFailed, Manifest, damaged
from fleet_api.backups.places import check_movable
from fleet_api.errors import NotFound, SchemaTooNew, Unavailable
from fleet_api.kit.durable import sync_folder
from fleet_api.kit.home import claim, give_to_owner

PLAN, STAGED, BEFORE = "restore.json", ".restore", "before-restore"
MIGRATIONS = Path(__file__).parents[1] / "migrations" / "versions"
NONE_WAITS = "No restore waits; 'fleet backup list' shows the backups."
KEPT = 3
"""Folders of what was there before a restore that stay; older ones go."""


class Plan(BaseModel):
    """A restore that waits, or was cut off. ``items`` are what the backup brings of the data folder."""

    backup_id: str
    undo: str
    items: list[str]
    keys: bool


def stage(home: Path, unpack: Callable[[Path, Going], Manifest], going: Going = lambda: None) -> Plan:
    """Unpack a backup beside what is in use, check it, and write the plan; a plan that waits already is replaced.

    Raises:
        Conflict: a backup is made meanwhile, or something that would be replaced is a mount point.
        SchemaTooNew: a newer version made the backup.
        BackupDamaged, BackupFailed: it is not what was written, or the disk is full. Nothing was changed.
    """
    with making.working(home), making.readable(f"The backup could not be unpacked in {home}"):
        if (home / PLAN).exists() and _begun(home):
            raise Unavailable("A restore was cut off; start the control plane once, which finishes it, and try again.")
        (home / PLAN).unlink(missing_ok=True)
        shutil.rmtree(home / STAGED, ignore_errors=True)
        (home / STAGED).mkdir(mode=0o700)
        try:
            manifest = unpack(home / STAGED, going)
            _check_schema(home / STAGED / DATABASE, manifest)
            items = sorted(each.name for each in (home / STAGED).iterdir())
            check_movable(home, [BEFORE, *(old for name in items for old in _replaced(name))])
            plan = Plan(backup_id=manifest.id, undo=_undo_name(home, manifest), items=items, keys=manifest.keys)
            going()
            _write(home / PLAN, plan.model_dump_json().encode())
            going()
        except BaseException:
            (home / PLAN).unlink(missing_ok=True)
            shutil.rmtree(home / STAGED, ignore_errors=True)
            raise
        return plan


def waiting(home: Path) -> Plan | None:
    """Return the restore that the next start applies. Raises BackupFailed for a plan that cannot be read."""
    try:
        return Plan.model_validate_json((home / PLAN).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BackupFailed(f"The plan of a restore, {home / PLAN}, cannot be read; remove it to go on without the restore.") from error


def apply(home: Path) -> Plan | None:
    """Apply the restore that waits, or finish one that was cut off; return it. Only with the control plane stopped.

    Raises:
        Conflict: a backup is made meanwhile.
        BackupFailed: a file cannot be moved. What was moved before is back in its place then, and another try begins anew.
    """
    if waiting(home) is None:
        shutil.rmtree(home / STAGED, ignore_errors=True)
        return None
    with making.working(home):
        plan = waiting(home)
        if plan is not None:  # else it was cancelled just now
            _apply(home, plan)
    return plan


def _apply(home: Path, plan: Plan) -> None:
    with making.readable(f"The restore of {plan.backup_id} could not be finished"):
        undo = home / BEFORE / plan.undo
        undo.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for name in plan.items:
                _exchange(home, undo, name)
            sync_folder(undo)
        except OSError as error:
            _put_back(home, undo, plan, error)
        (home / PLAN).unlink()
        sync_folder(home)
        shutil.rmtree(home / STAGED, ignore_errors=True)
        give_to_owner(home, [home / name for name in (*plan.items, BEFORE)])
        _forget_oldest(home / BEFORE)


def _replaced(name: str) -> tuple[str, ...]:
    """Return what goes when an item comes, in the order in which it goes."""
    return (f"{name}-wal", f"{name}-shm", name) if name == DATABASE else (name,)


def _exchange(home: Path, undo: Path, name: str) -> None:
    if not (home / STAGED / name).exists():  # it is in its place already
        return
    for old in _replaced(name):
        if os.path.lexists(home / old):
            (home / old).rename(undo / old)
    (home / STAGED / name).rename(home / name)
    sync_folder(home)


def _put_back(home: Path, undo: Path, plan: Plan, why: OSError) -> NoReturn:
    """Move everything to where it was before the restore; killed, the next start restores first and comes here again."""
    said = f"The restore of {plan.backup_id} could not be finished: {why.filename or home}: {why.strerror or why}."
    try:
        for name in reversed(plan.items):
            if not (home / STAGED / name).exists():
                (home / name).rename(home / STAGED / name)
            for old in reversed(_replaced(name)):
                if os.path.lexists(undo / old):
                    (undo / old).rename(home / old)
        sync_folder(home)
    except OSError as error:
        raise BackupFailed(
            f"{said} What was replaced could not be put back either ({error.filename or home}: {error.strerror or error}): it is in "
            f"{undo}. Mend that and start the control plane, which goes on from there."
        ) from None
    with suppress(OSError):
        undo.rmdir()
        undo.parent.rmdir()
    raise BackupFailed(f"{said} Everything is as it was before; mend that and try again, or forget it: fleet backup cancel.") from None


def at_start(home: Path) -> Plan | None:
    """Apply the restore that waits, before a control plane starts. Raises HomeBusy while one runs, BackupFailed."""
    if not (home / PLAN).exists():
        return None
    with claim(home, "api.lock"):
        return apply(home)


def told(home: Path, plan: Plan) -> str:
    """Return what was done, and what is still to be done, for people."""
    kept = home / BEFORE / plan.undo
    text = f"{plan.backup_id} is restored." + (f" What was there before is in {kept}." if kept.exists() else "")
    if keys_missing(home, plan):
        text += (
            f" The backup does not hold the vault's keys: put your copy of vault/ into {home}, and of tls/, so that nodes know it again."
        )
    return text


def cancel(home: Path) -> Plan:
    """Forget the restore that waits, and return it.

    Raises:
        NotFound: none waits.
        Conflict: a backup is made or restored meanwhile.
        Unavailable: it was begun, and cut off in its midst.
    """
    if not home.is_dir():
        raise NotFound(NONE_WAITS)
    with making.working(home), making.readable("The restore could not be forgotten"):
        plan = waiting(home)
        if plan is None:
            raise NotFound(NONE_WAITS)
        if _begun(home):
            raise Unavailable("The restore was begun and cut off; start the control plane once, which finishes it.")
        (home / PLAN).unlink(missing_ok=True)
        sync_folder(home)
        shutil.rmtree(home / STAGED, ignore_errors=True)
        return plan


def keys_missing(home: Path, plan: Plan) -> bool:
    """Whether the vault's keys have to be put back by hand after this restore."""
    return not plan.keys and not (home / "vault" / "current").exists()


def known_revisions() -> set[str]:
    """Return the revisions that this version can bring up to date."""
    return {path.name.split("_", 1)[0] for path in MIGRATIONS.glob("[0-9]*.py")}


def _begun(home: Path) -> bool:
    """Whether something was moved already: all that the plan names is in the staging folder until then."""
    plan = waiting(home)
    return plan is not None and (
        any(not (home / STAGED / name).exists() for name in plan.items) or any((home / BEFORE / plan.undo).glob("*"))
    )


def _check_schema(database: Path, manifest: Manifest) -> None:
    if not database.is_file():
        raise damaged(manifest.id, "it has no database")
    try:
        connection = sqlite3.connect(database)
        try:
            revision = making.revision_of(connection, database)
        finally:
            connection.close()
    except (sqlite3.Error, BackupFailed):
        raise damaged(manifest.id, "its database is not whole") from None
    if revision not in known_revisions():
        raise SchemaTooNew(
            f"The backup {manifest.id} has schema {revision}, which this version does not know: Fleet Commander {manifest.version} made "
            "it. Install that version, or a later one, and restore it there."
        )


def _undo_name(home: Path, manifest: Manifest) -> str:
    numbers = [each.name.rpartition(".")[2] for each in (home / BEFORE).glob(f"{manifest.id}.*")]
    return f"{manifest.id}.{1 + max((int(each) for each in numbers if each.isdecimal()), default=0)}"


def _forget_oldest(folder: Path) -> None:
    found = sorted((each for each in folder.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in found:
        if not any(each.iterdir()):  # a fresh home had nothing to keep
            each.rmdir()
    for old in [each for each in found if each.exists()][KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)
