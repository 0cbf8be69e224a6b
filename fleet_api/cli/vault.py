"""``fleet vault``: secrets come from prompts, from files or from standard input, never from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet_api.cli import exit_codes
from fleet_api.cli.common import Json, Url, calling, fail, print_json, print_table, say
from fleet_api.cli.local import Home, checked, explained, settings_of, with_database

if TYPE_CHECKING:
    from fleet_api.access.vault.models import Credential
    from fleet_api.access.vault.service import VaultService
    from fleet_api.kit.db import Database
    from fleet_api.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Keep credentials: how to sign in to machines.")

Name = Annotated[str, typer.Argument(help="What to call it")]
Username = Annotated[str, typer.Option("--username", "-u", help="Whom to sign in as")]
Password = Annotated[bool, typer.Option("--password", help="Ask for a password; the default where no key is given")]
Key = Annotated[Path | None, typer.Option("--key", help="File of a private key; its passphrase is asked for, if it has one")]
Become = Annotated[bool, typer.Option("--become", help="Ask for sudo's password, where it is another one")]


@app.command("add", epilog="Examples: fleet vault add jetsons -u jetson; fleet vault add lab -u ubuntu --key ~/.ssh/id_ed25519 < passwords")
def add(
    name: Name, username: Username, password: Password = False, key: Key = None, become: Become = False, home: Home = None,
    url: Url = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Keep a credential. Where standard input is no terminal, each secret that is asked for is a line of it, in this order: password,
    passphrase, sudo's password.

    Without --url it works on the data folder of this machine, whether or not the control plane runs.
    """
    secrets = _asked(password or key is None, key, become)
    if url:
        with calling(url) as client:
            made = client.add_credential(name, username, **secrets)
    else:
        from fleet_api.access.vault.schemas import CredentialBody

        checked(CredentialBody, name=name, username=username, **secrets)
        settings = settings_of(home)
        row = with_database(settings, lambda db: _vault(settings, db).add(name, username, secrets), "fleet vault add", _subject)
        made = _view(row, [])
    if as_json:
        print_json(made)
    else:
        say(f"{made['name']}: kept, for user {made['username']}, with {', '.join(made['kinds'])}")


@app.command("change", epilog="Example: fleet vault change jetsons --password")
def change(
    name: Name, username: Annotated[str | None, typer.Option("--username", "-u", help="Whom to sign in as")] = None,
    password: Password = False, key: Key = None, become: Become = False, home: Home = None, url: Url = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Replace secrets of a credential; what is not named stays."""
    secrets = _asked(password, key, become)
    if not secrets and not username:
        fail("Say what to change: --username, --password, --key or --become.", exit_codes.USAGE)
    if url:
        with calling(url) as client:
            changed = client.change_credential(name, **secrets, **({"username": username} if username else {}))
    else:
        from fleet_api.access.vault.schemas import CredentialChange

        checked(CredentialChange, username=username, **secrets)
        settings = settings_of(home)
        row = with_database(settings, lambda db: _vault(settings, db).change(name, None, username, secrets), "fleet vault change", _subject)
        changed = _view(row, [])
    if as_json:
        print_json(changed)
    else:
        say(f"{changed['name']}: changed; user {changed['username']}, with {', '.join(changed['kinds'])}")


@app.command("list", epilog="Examples: fleet vault list; fleet vault list --json")
def list_credentials(home: Home = None, url: Url = None, as_json: Json = False) -> None:
    """Show every credential, never a secret."""
    if url:
        with calling(url) as client:
            found = client.credentials()
    else:
        settings = settings_of(home)
        found = [_view(*each) for each in with_database(settings, lambda db: _vault(settings, db).page())]
    if as_json:
        print_json(found)
        return
    rows = [
        [each["name"], each["username"], ", ".join(each["kinds"]), each["last_used_at"] or "-", ", ".join(each["nodes"]) or "-"]
        for each in found
    ]
    print_table(["NAME", "USER", "HOLDS", "LAST USED", "NODES"], rows, "The vault is empty. Add to it: fleet vault add NAME -u USER")


@app.command("remove", epilog="Example: fleet vault remove jetsons")
def remove(
    name: Annotated[str, typer.Argument(help="A credential's name or id")],
    force: Annotated[bool, typer.Option("--force", help="Also one that nodes or operations use")] = False,
    home: Home = None, url: Url = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Delete a credential."""
    if url:
        with calling(url) as client:
            gone = client.remove_credential(name, force)
    else:
        settings = settings_of(home)
        row = with_database(settings, lambda db: _vault(settings, db).remove(name, force), "fleet vault remove", _subject)
        gone = _view(row, [])
    if as_json:
        print_json(gone)
    else:
        say(f"{gone['name']}: removed")


@app.command("rotate", epilog="Example: fleet vault rotate")
def rotate(home: Home = None, as_json: Json = False) -> None:
    """Put every credential under a new master key, on the data folder of this machine; the control plane may run meanwhile.

    A stop at any moment leaves every credential open; the next rotation finishes what is left. Backups of the database from before want
    the old key: keep its file with them.
    """
    from fleet_api.access.vault.keyring import Keyring
    from fleet_api.access.vault.rotation import rotate as rotated

    settings = settings_of(home)
    keyring = Keyring(settings.vault_folder, settings.vault_key_file)
    done = with_database(settings, lambda db: rotated(db, keyring), "fleet vault rotate", lambda _: "vault")
    if as_json:
        print_json({"key_id": done.key_id, "rewrapped": done.rewrapped, "removed": done.removed, "left": done.left})
    else:
        say(f"{done.rewrapped} credentials are under the master key {done.key_id}; keys removed: {', '.join(done.removed) or 'none'}")
    if done.left:
        fail(f"These do not open and stay under their old key: {', '.join(done.left)}; delete them and add them again.", exit_codes.FAILED)


def _asked(password: bool, key: Path | None, become: bool) -> dict[str, str]:
    """Return the secrets that were asked for."""
    secrets: dict[str, str] = {}
    if password:
        secrets["password"] = _secret("Password")
    if key is not None:
        from fleet_api.access.vault.private_keys import wants_passphrase

        with explained():
            try:
                secrets["private_key"] = key.expanduser().read_text()
            except UnicodeDecodeError:
                fail(f"--key: {key} is no text file.", exit_codes.USAGE)
        if wants_passphrase(secrets["private_key"]):
            secrets["passphrase"] = _secret("Passphrase of the key", twice=False)
    if become:
        secrets["become_password"] = _secret("Password for sudo")
    return secrets


def _secret(what: str, twice: bool = True) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True, confirmation_prompt=twice))
    line = sys.stdin.readline()
    if not line.strip("\r\n"):
        fail(f"{what}: standard input has no line for it; give each secret a line.", exit_codes.USAGE)
    return line.rstrip("\r\n")


def _vault(settings: Settings, db: Database) -> VaultService:
    from fleet_api.access.vault.keyring import Keyring
    from fleet_api.access.vault.service import VaultService
    from fleet_api.kit.clock import SystemClock

    return VaultService(db, SystemClock(), Keyring(settings.vault_folder, settings.vault_key_file))


def _view(row: Credential, nodes: list[str]) -> dict[str, Any]:
    from fleet_api.access.vault.schemas import CredentialView

    return CredentialView.of(row, nodes).model_dump()


def _subject(row: Credential) -> str:
    return f"credential {row.name}"
