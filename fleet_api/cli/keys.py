"""``fleet keys``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail, print_json, print_table, say
from fleet_api.cli.local import Home, checked, explained, settings_of, with_database
from fleet_api.client import KEY_FILE, saved_key

if TYPE_CHECKING:
    from fleet_api.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke keys.")

ROLES = ("viewer", "operator", "admin")
DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}
Name = Annotated[str, typer.Argument(help="What to call it, such as who uses it")]


@app.command("create", epilog="Examples: fleet keys create alice; fleet keys create ci --role operator --expires 30d")
def create(
    name: Name,
    role: Annotated[str, typer.Option(help="viewer looks; operator makes and cancels jobs; admin may do everything")] = "viewer",
    expires: Annotated[str | None, typer.Option(help="How long it is good for, such as 12h, 30d, 1y  [default: until revoked]")] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep it in the data folder, for commands on this machine")] = False,
    home: Home = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it, this once.

    Without --url it works on the data folder of this machine, whether or not the control plane runs.
    """
    if role not in ROLES:
        fail(f"--role: {role!r} is not allowed; it must be one of {', '.join(ROLES)}.", exit_codes.USAGE)
    days = _days(expires)
    _check_name(name, role, days)
    if save and url:
        fail("--save keeps the key of this machine's own control plane; leave out --url, and FLEET_URL.", exit_codes.USAGE)
    if url:
        with calling(url) as client:
            made = client.create_key(name, role, days)
    else:
        made = _create_here(settings_of(home), name, role, days)
    if as_json:
        print_json(made)
    else:
        say(made["key"])
        say(f"The key of {name}, with the role {role}. It is not shown again.")
    if save:
        path = _save(settings_of(home), made["key"])
        if not as_json:
            say(f"It is kept for commands on this machine, in {path}.")


@app.command("list", epilog="Examples: fleet keys list; fleet keys list --json")
def list_keys(home: Home = None, url: Url = None, as_json: Json = False) -> None:
    """Show every key, never the keys themselves."""
    if url:
        with calling(url) as client:
            found = client.keys()
    else:
        found = _list_here(settings_of(home))
    if as_json:
        print_json(found)
        return
    rows = [
        [
            key["name"], key["role"], key["status"], key["hint"], _date(key["created_at"]), _date(key["expires_at"]) or "never",
            _date(key["last_used_at"]) or "never", key["last_used_from"] or "-",
        ]
        for key in found
    ]  # fmt: skip
    print_table(
        ["NAME", "ROLE", "STATUS", "KEY", "CREATED", "EXPIRES", "LAST USED", "FROM"], rows,
        "No keys yet. Make one: fleet keys create NAME --role admin",
    )  # fmt: skip


@app.command("revoke", epilog="Example: fleet keys revoke alice")
def revoke(
    name: Annotated[str, typer.Argument(help="A key's name or id")], home: Home = None, url: Url = None, as_json: Json = False
) -> None:
    """Revoke a key: its next request, and its signed-in browsers, are refused."""
    if url:
        with calling(url) as client:
            revoked, forgotten = client.revoke_key(name), None
            if client.key_file is not None and (saved_key(client.key_file) or "").startswith(revoked["hint"].rstrip(".")):
                forgotten = client.key_file
    else:
        revoked, forgotten = _revoke_here(settings_of(home), name)
    if forgotten is not None:
        with explained():
            forgotten.unlink(missing_ok=True)
    if as_json:
        print_json(revoked)
        return
    say(f"{revoked['name']}: revoked")
    if forgotten is not None:
        say(f"It was the one kept for commands on this machine; {forgotten} is removed.")


def _create_here(settings: Settings, name: str, role: str, days: float | None) -> dict[str, Any]:
    from fleet_api.access.callers import Role
    from fleet_api.access.keys import create_key
    from fleet_api.access.schemas import KeyView, NewKey
    from fleet_api.kit.clock import SystemClock

    clock = SystemClock()
    lifetime = days * 86_400 if days else None
    row, key = with_database(
        settings, lambda db: create_key(db, clock, name, Role[role.upper()], lifetime), "fleet keys create", lambda _: name
    )
    return NewKey(**KeyView.of(row, clock.now()).model_dump(), key=key).model_dump()


def _list_here(settings: Settings) -> list[dict[str, Any]]:
    from fleet_api.access import repository
    from fleet_api.access.schemas import KeyView
    from fleet_api.kit.clock import SystemClock

    now = SystemClock().now()
    return [KeyView.of(row, now).model_dump() for row in with_database(settings, lambda db: db.read(repository.every_key))]


def _revoke_here(settings: Settings, name: str) -> tuple[dict[str, Any], Path | None]:
    from fleet_api.access.keys import revoke_key
    from fleet_api.access.schemas import KeyView
    from fleet_api.kit.clock import SystemClock
    from fleet_api.kit.crypto import fingerprint

    clock, path = SystemClock(), settings.home / KEY_FILE
    row = with_database(settings, lambda db: revoke_key(db, clock, name), "fleet keys revoke", lambda row: str(row.name))
    saved = saved_key(path)
    return KeyView.of(row, clock.now()).model_dump(), path if saved and fingerprint(saved) == row.key_hash else None


def _save(settings: Settings, key: str) -> Path:
    path = settings.home / KEY_FILE
    with explained():
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key + "\n")
    return path


def _check_name(name: str, role: str, days: float | None) -> None:
    from fleet_api.access.schemas import KeyBody

    checked(KeyBody, name=name, role=role, expires_in_days=days)


def _days(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([hdwy])", text)
    days = float(found[1]) * DAYS[found[2]] if found else 0.0
    if not 0 < days <= 3650:
        fail(f"--expires: {text!r} is not allowed; write a number and h, d, w or y, such as 30d, up to 10y.", exit_codes.USAGE)
    return days


def _date(text: str | None) -> str:
    return (text or "")[:16].replace("T", " ")
