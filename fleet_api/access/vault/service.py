"""The vault: credentials kept, opened for use, replaced, removed.

A secret leaves only by :meth:`VaultService.open`, for SSH and for Ansible; no route calls it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import Connection

from fleet_api.access.vault import private_keys, repository
from fleet_api.access.vault.envelope import Damaged, Place, seal, unseal
from fleet_api.access.vault.keyring import Keyring, MasterKey, VaultLocked
from fleet_api.access.vault.models import Credential
from fleet_api.access.vault.secret import FIELDS, Secret
from fleet_api.errors import Conflict, InvalidValue, NotFound
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database, DatabaseUnusable

log = structlog.get_logger()

REMEMBERED_SECONDS = 1.0


class VaultService:
    """One instance a process. ``on_change`` is told the id of each credential that was changed or removed."""

    def __init__(self, db: Database, clock: Clock, keyring: Keyring) -> None:
        self.keyring = keyring
        self.on_change: list[Callable[[str], None]] = []
        self._db = db
        self._clock = clock
        self._versions: dict[str, tuple[int, float]] = {}

    async def page(self, limit: int | None = None, offset: int = 0) -> list[tuple[Credential, list[str]]]:
        """Return credentials, newest first, each with the nodes that use it."""

        def find(db: Connection) -> list[tuple[Credential, list[str]]]:
            rows = repository.page(db, limit, offset)
            nodes = repository.nodes_with(db, [row.id for row in rows])
            return [(row, nodes[row.id]) for row in rows]

        return await self._db.read(find)

    async def nodes_with(self, credential_id: str) -> list[str]:
        """Return the ids of the nodes that use a credential."""
        return (await self._db.read(lambda db: repository.nodes_with(db, [credential_id])))[credential_id]

    async def get(self, credential_id: str) -> Credential:
        """Return a credential by its id or name, sealed. Raises NotFound."""
        row = await self._db.read(lambda db: repository.get(db, credential_id) or repository.named(db, credential_id))
        if row is None:
            raise NotFound(f"There is no credential {credential_id!r} in the vault; 'fleet vault list' shows them.")
        return row

    async def add(self, name: str, username: str, secrets: dict[str, str]) -> Credential:
        """Keep a credential. Raises InvalidValue for a key that cannot be used, Conflict for a name that is taken, VaultLocked."""
        secrets = await _checked(secrets)
        now = self._clock.now()
        async with self.keyring.held():
            key = await self.sealing_key()
            row_id = str(uuid.uuid4())
            row = Credential(
                id=row_id, name=name, username=username, kinds=_kinds(secrets), sealed=seal(key, Place(row_id, 1), secrets), key_id=key.id,
                created_at=now, updated_at=now,
            )  # fmt: skip

            def store(db: Connection) -> Credential:
                _refuse_taken(db, name)
                repository.add(db, row)
                return row

            return await self._db.write(store)

    async def change(self, credential_id: str, name: str | None, username: str | None, secrets: dict[str, str]) -> Credential:
        """Rename a credential, or replace secrets of it; an empty secret takes that one away.

        Raises NotFound, InvalidValue, Conflict and VaultLocked.
        """
        async with self.keyring.held():
            row = await self.get(credential_id)
            values: dict[str, Any] = {"updated_at": self._clock.now(), "name": name or row.name, "username": username or row.username}
            if secrets or values["username"] != row.username:
                kept = _merged(self._opened(row), secrets)
                if not any(kept.get(field) for field in ("password", "private_key")):
                    raise InvalidValue("A password or a private_key must stay; give another one, or delete the credential.")
                kept = await _checked(kept)
                key = await self.sealing_key()
                values |= {"version": row.version + 1, "kinds": _kinds(kept), "key_id": key.id}
                values["sealed"] = seal(key, Place(row.id, row.version + 1), kept)

            def store(db: Connection) -> Credential:
                if values["name"] != row.name:
                    _refuse_taken(db, values["name"])
                if not repository.change(db, row.id, row.version, **values):
                    raise Conflict(f"Credential {row.name!r} was changed by somebody else meanwhile; look at it and try again.")
                return Credential(**{**row.model_dump(), **values})

            changed = await self._db.write(store)
        self._forget(row.id)
        return changed

    async def remove(self, credential_id: str, force: bool = False) -> Credential:
        """Delete a credential. Raises NotFound, and Conflict for one that a node or an operation uses unless ``force``."""
        row = await self.get(credential_id)

        def delete(db: Connection) -> Credential:
            nodes, operations = repository.nodes_with(db, [row.id])[row.id], repository.operations_with(db, row.id)
            if (nodes or operations) and not force:
                users = [f"{what} {', '.join(ids)}" for what, ids in (("nodes", nodes), ("operations", operations)) if ids]
                raise Conflict(
                    f"Credential {row.name!r} is used by {' and '.join(users)}; give them another one first, or delete it with force."
                )
            repository.remove(db, row.id)
            return row

        await self._db.write(delete)
        self._forget(row.id)
        return row

    async def open(self, credential_id: str) -> Secret:
        """Return a credential's secrets, by its id or name. Raises NotFound and VaultLocked."""
        row = await self.get(credential_id)
        self._versions[row.id] = (row.version, self._clock.monotonic())
        values = self._opened(row)
        return Secret(row.username, credential_id=row.id, name=row.name, version=row.version, **values)

    async def version(self, credential_id: str) -> int:
        """Return which version of its secrets a credential has: at most :data:`REMEMBERED_SECONDS` old. Raises NotFound."""
        known = self._versions.get(credential_id)
        now = self._clock.monotonic()
        if known is not None and now - known[1] < REMEMBERED_SECONDS:
            return known[0]
        found = await self._db.read(lambda db: repository.version(db, credential_id))
        if found is None:
            self._versions.pop(credential_id, None)
            raise NotFound(f"Credential {credential_id!r} is no longer in the vault; give the node another one.")
        self._versions[credential_id] = (found, now)
        return found

    async def used(self, credential_id: str) -> None:
        """Note that a credential was used just now."""
        now = self._clock.now()
        try:
            await self._db.write(lambda db: repository.used(db, credential_id, now))
        except DatabaseUnusable as error:
            log.warning("credential_use_not_saved", reason=error.detail)

    async def sealing_key(self) -> MasterKey:
        """Return the current master key, made now if this is the first secret ever; under ``keyring.held()``. Raises VaultLocked."""
        key = self.keyring.current()
        if key is not None:
            return key
        if await self._db.read(repository.count):
            raise VaultLocked(
                f"The vault's master key is missing from {self.keyring.keys_folder}; restore that folder, and 'current' beside it, from a "
                "backup, or delete the credentials and add them again."
            )
        key = self.keyring.make()
        self.keyring.point(key)
        return key

    def _opened(self, row: Credential) -> dict[str, str]:
        key = self.keyring.get(row.key_id)
        try:
            return unseal(key, Place(row.id, row.version), row.sealed)
        except Damaged:
            log.error("credential_damaged", credential=row.id)
            raise VaultLocked(
                f"Credential {row.name!r} does not open: its row was changed from outside. Restore the database from a backup, or delete "
                "the credential and add it again."
            ) from None

    def _forget(self, credential_id: str) -> None:
        self._versions.pop(credential_id, None)
        for tell in self.on_change:
            tell(credential_id)


def _kinds(secrets: dict[str, str]) -> str:
    return ",".join(field for field in FIELDS if secrets.get(field))


def _merged(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    kept = {field: value for field, value in {**old, **new}.items() if value}
    if ("private_key" in new and "passphrase" not in new) or "private_key" not in kept:
        kept.pop("passphrase", None)  # it belonged to the key that was replaced
    return kept


async def _checked(secrets: dict[str, str]) -> dict[str, str]:
    found = {field: value for field, value in secrets.items() if value}
    if "private_key" in found:
        found["private_key"] = private_keys.normal(found["private_key"])
        await private_keys.check(found["private_key"], found.get("passphrase"))
    elif "passphrase" in found:
        raise InvalidValue("passphrase: it opens a private_key, and none was given.")
    return found


def _refuse_taken(db: Connection, name: str) -> None:
    if repository.named(db, name) is not None:
        raise Conflict(f"There is a credential named {name!r} already; delete it first, or choose another name.")
