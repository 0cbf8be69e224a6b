"""``fleet webhook-secret``: what receivers of callbacks check signatures with. It works on the data folder of this machine alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from fleet_api.cli.common import Json, print_json, say
from fleet_api.cli.local import Home, settings_of, with_database

if TYPE_CHECKING:
    from fleet_api.callbacks.secrets import WebhookSecrets
    from fleet_api.kit.db import Database
    from fleet_api.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="Show or replace the secret that callbacks are signed with.",
    epilog="Examples: fleet webhook-secret show; fleet webhook-secret rotate",
)


@app.command("show", epilog="Examples: fleet webhook-secret show; fleet webhook-secret show --json")
def show(home: Home = None, as_json: Json = False) -> None:
    """Show the secret; it is made if there is none yet. Receivers give it to their Standard Webhooks library."""
    settings = settings_of(home)
    secret = with_database(settings, lambda db: _secrets(settings, db).show(), "fleet webhook-secret show", lambda _: "webhook secret")
    if as_json:
        print_json({"secret": secret})
    else:
        say(secret)


@app.command("rotate", epilog="Example: fleet webhook-secret rotate")
def rotate(home: Home = None, as_json: Json = False) -> None:
    """Make a new secret and show it. For 24 hours messages are signed with the old one too; the control plane may run meanwhile."""
    settings = settings_of(home)
    secret = with_database(settings, lambda db: _secrets(settings, db).rotate(), "fleet webhook-secret rotate", lambda _: "webhook secret")
    if as_json:
        print_json({"secret": secret})
    else:
        say(secret)
        say("Give it to every receiver within 24 hours; until then the old secret is good too.")


def _secrets(settings: Settings, db: Database) -> WebhookSecrets:
    from fleet_api.access.vault.keyring import Keyring
    from fleet_api.access.vault.service import VaultService
    from fleet_api.callbacks.secrets import WebhookSecrets
    from fleet_api.kit.clock import SystemClock

    clock = SystemClock()
    return WebhookSecrets(db, clock, VaultService(db, clock, Keyring(settings.vault_folder, settings.vault_key_file)))
