"""Hands what opens the object store to a playbook that runs as the data folder's own: ``python -m fleet_api.storage.handing``.

It prints one JSON object with the secret to its parent's pipe, and refuses a terminal. Only the collection's actions call it; what they
put into a file on a machine goes there as an argument that Ansible does not log.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.object_store.types import S3Access
from fleet_api.cli.local import settings_of, with_database
from fleet_api.errors import NotFound, Unavailable
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from fleet_api.settings import Settings
from fleet_api.storage import identity, known


async def access(settings: Settings, db: Database, endpoint: str, credential: str, region: str) -> S3Access:
    """Return where the store is and how one signs in; what is empty is what is set, or what the playbook noted. Raises FleetError."""
    noted = known.read(settings.storage_folder)
    endpoint = endpoint or settings.s3_endpoint or (noted.endpoint if noted else "")
    if not endpoint:
        raise Unavailable("The fleet has no object store: run the playbook 'storage', or set FLEET_S3_ENDPOINT and FLEET_S3_CREDENTIAL.")
    name = credential or settings.s3_credential or (noted.credential if noted else identity.CREDENTIAL)
    vault = VaultService(db, SystemClock(), Keyring(settings.vault_folder, settings.vault_key_file))
    try:
        access_key, secret_key = identity.held(await vault.open(name))
    except NotFound:
        raise Unavailable(f"The vault has no credential {name!r} for the object store; run the playbook 'storage', or add it.") from None
    ours = noted is not None and noted.endpoint == endpoint
    authority = settings.storage_folder / known.CA_FILE
    return S3Access(
        endpoint, access_key, secret_key, region or (noted.region if noted and ours else settings.s3_region),
        authority if ours and authority.exists() else None,
    )  # fmt: skip


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(prog="fleet_api.storage.handing")
    for name in ("home", "endpoint", "credential", "region"):
        parser.add_argument(f"--{name}", default="")
    given = parser.parse_args()
    if sys.stdout.isatty():
        sys.exit("This prints a secret, and not to a terminal.")
    settings = settings_of(Path(given.home) if given.home else None)
    found = with_database(settings, lambda db: access(settings, db, given.endpoint, given.credential, given.region))
    values = {"endpoint": found.endpoint, "region": found.region, "access_key": found.access_key, "secret_key": found.secret_key}
    sys.stdout.write(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
