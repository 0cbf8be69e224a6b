"""``fleet storage``: who opens the object store, and its buckets. The playbook 'storage' calls both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet_api.cli.common import Json, out, print_json, say
from fleet_api.cli.local import Home, explained, settings_of, with_database

if TYPE_CHECKING:
    from fleet_api.access.vault.service import VaultService
    from fleet_api.kit.db import Database
    from fleet_api.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="The fleet's object store: who opens it, its buckets.", epilog="Example: fleet storage buckets"
)

Check = Annotated[bool, typer.Option("--check", help="Say what would be made, and make nothing")]
Credential = Annotated[str, typer.Option(help="A credential of the vault: user name and password are access key and secret")]
Region = Annotated[str, typer.Option(help="Region of the store")]


@app.command("identity", epilog="Example: fleet storage identity http://192.0.2.10:9010")
def identity(
    endpoint: Annotated[str, typer.Argument(help="Where the store is", metavar="URL")],
    credential: Credential = "object-storage",
    region: Region = "us-east-1",
    check: Check = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the store's access key and secret in the vault, unless they are there, and note where the store is."""
    from fleet_api.storage import identity as identities

    settings = settings_of(home)
    with explained():
        wanted = identities.Wanted(endpoint, credential, region)
    if check and not settings.database.exists():
        made = ["credential", "note"]
    else:
        work = identities.missing if check else identities.ensure
        row = "" if check else "fleet storage identity"
        made = with_database(settings, lambda db: work(_vault(settings, db), settings.storage_folder, wanted), row, lambda _: credential)
    if as_json:
        print_json({"endpoint": wanted.endpoint, "credential": credential, "made": made})
        return
    word = "Would be made" if check else "Made"
    out.print(f"{word}: {', '.join(made)}." if made else "All of it is there.", markup=False)


@app.command("buckets", epilog="Examples: fleet storage buckets; fleet storage buckets --check")
def buckets(
    workspace_days: Annotated[int, typer.Option(min=1, max=3650, help="Days after which the store deletes what is in fleet-workspace")] = 7,
    upload_days: Annotated[int, typer.Option(min=1, max=365, help="Days after which it forgets an upload there that nobody finished")] = 2,
    endpoint: Annotated[str, typer.Option(help="Another store than the fleet's own")] = "",
    credential: Annotated[str, typer.Option(help="Another credential of the vault than the store's own")] = "",
    region: Annotated[str, typer.Option(help="Another region than the store's own")] = "",
    check: Check = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the fleet's buckets, the policy of those that everybody may read, and the lifecycle of the workspace."""
    from fleet_api.adapters.object_store.s3 import S3Store
    from fleet_api.kit.allowed import AllowedNetworks
    from fleet_api.storage import handing
    from fleet_api.storage.setup import set_up

    settings = settings_of(home)
    found = with_database(settings, lambda db: handing.access(settings, db, endpoint, credential, region))
    with explained():
        done = set_up(S3Store(found, AllowedNetworks(settings.s3_networks)), workspace_days, upload_days, check)
    told: dict[str, Any] = {"endpoint": found.endpoint, "changed": done.changed, "warnings": done.warnings}
    if as_json:
        print_json(told)
        return
    for each in done.changed:
        say(f"{'would make' if check else 'made'} {each}")
    for each in done.warnings:
        say(each)
    if not done.changed:
        say("The buckets are as they should be.")


def _vault(settings: Settings, db: Database) -> VaultService:
    from fleet_api.access.vault.keyring import Keyring
    from fleet_api.access.vault.service import VaultService
    from fleet_api.kit.clock import SystemClock

    return VaultService(db, SystemClock(), Keyring(settings.vault_folder, settings.vault_key_file))
