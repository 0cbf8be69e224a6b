"""Who opens the object store: an access key and a secret, made once, kept sealed in the vault; and the note of where the store is.

No file holds the secret on the controller. What the store's own machine and the mounts of nodes need of it goes from the vault to them by
:mod:`handing`, while a playbook runs.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fleet_api.access.certificate_files import write_private
from fleet_api.access.vault.secret import Secret
from fleet_api.access.vault.service import VaultService
from fleet_api.errors import Conflict, InvalidValue, NotFound, Unavailable
from fleet_api.kit.home import give_to_owner
from fleet_api.storage import known
from fleet_api.storage.known import KnownStore

CREDENTIAL = "object-storage"
_PLAIN = re.compile(r"[A-Za-z0-9+/=._~@%-]+")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}")

WELL_KNOWN = frozenset({
    "minioadmin", "minioadmin123", "minio", "minio123", "minioadminpassword", "admin", "admin123", "administrator", "password", "password1",
    "password123", "changeme", "changeme123", "secret", "secretkey", "accesskey", "access_key", "secret_key", "root", "rootroot", "toor",
    "12345678", "123456789", "1234567890", "test", "testtest", "test1234", "default", "rustfsadmin", "garage", "seaweedfs",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "zuf+tfteSlswRu7BJ86wekitnifILbZam1KYY3TG",
})  # fmt: skip
"""Secrets of documents, defaults and examples: everybody tries them first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the store is to be, and which credential of the vault opens it."""

    endpoint: str
    credential: str = CREDENTIAL
    region: str = "us-east-1"

    def __post_init__(self) -> None:
        """Raises InvalidValue."""
        parts = urlsplit(self.endpoint)
        try:
            whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 80) and parts.path in ("", "/")
        except ValueError:
            whole = False
        if not whole or parts.query or parts.fragment or parts.username:
            raise InvalidValue(f"endpoint: {self.endpoint[:80]!r} is not allowed; it must be an address such as http://192.0.2.10:9010.")
        if not _REGION.fullmatch(self.region):
            raise InvalidValue(f"region: {self.region[:60]!r} is not allowed; use up to 40 lower-case letters, digits and hyphens.")
        if not _NAME.fullmatch(self.credential):
            raise InvalidValue(f"credential: {self.credential[:60]!r} is not allowed; it must be a name that the vault can have.")


def check_pair(access_key: str, secret_key: str) -> None:
    """Raise Conflict for a pair that everybody knows, and InvalidValue for one that no file of settings can hold."""
    if secret_key.lower() in {each.lower() for each in WELL_KNOWN} or secret_key == access_key:
        raise Conflict(
            "The object store's secret is one that everybody knows, such as that of its documents; change the credential with "
            "'fleet vault change', or delete it and let the playbook make another one."
        )
    if len(access_key) < 3 or len(secret_key) < 8:
        raise InvalidValue("The object store's access key must have 3 characters or more, and its secret 8.")
    if not _PLAIN.fullmatch(access_key) or not _PLAIN.fullmatch(secret_key):
        raise InvalidValue("The object store's access key and secret may hold letters, digits and +/=._~@%- alone.")


async def missing(vault: VaultService, folder: Path, wanted: Wanted) -> list[str]:
    """Return what :func:`ensure` would make: ``credential``, ``note``. Raises Conflict for a pair that everybody knows."""
    found = []
    try:
        held(await vault.open(wanted.credential))
    except NotFound:
        found.append("credential")
    try:
        noted = known.read(folder)
    except Unavailable:
        noted = None
    return found if noted == _note(wanted) else [*found, "note"]


async def ensure(vault: VaultService, folder: Path, wanted: Wanted) -> list[str]:
    """Make what is missing, and return it. A credential that is there stays. Raises InvalidValue, Conflict, VaultLocked, OSError."""
    todo = await missing(vault, folder, wanted)
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    if "credential" in todo:
        await vault.add(wanted.credential, f"fleet{secrets.token_hex(8)}", {"password": secrets.token_hex(24)})
    if "note" in todo:
        write_private(folder / known.NOTE, _note(wanted).model_dump_json().encode())  # last: with it, all of it is there
    home = folder.parent
    give_to_owner(home, [home / "storage", home / "vault", *home.glob("fleet.db*")])
    return todo


def held(secret: Secret) -> tuple[str, str]:
    """Return access key and secret of a credential. Raises Conflict and InvalidValue for those that cannot be used."""
    if not secret.password:
        raise InvalidValue(f"Credential {secret.name!r} has no password, which for an object store is its secret.")
    check_pair(secret.username, secret.password)
    return secret.username, secret.password


def _note(wanted: Wanted) -> KnownStore:
    return KnownStore(endpoint=wanted.endpoint.rstrip("/"), credential=wanted.credential, region=wanted.region)
