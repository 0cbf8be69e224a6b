"""The fleet's object store. What is set, or was made by the playbook, is looked up each time; one client is kept for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.object_store.folder import FolderStore
from fleet_api.adapters.object_store.s3 import S3Store
from fleet_api.adapters.object_store.types import ObjectStore, S3Access
from fleet_api.errors import NotFound, Unavailable
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.settings import Settings
from fleet_api.storage import known
from fleet_api.storage.buckets import OUTPUTS

UNSET = "The fleet has no S3 store: run the playbook 'storage' on this data folder, or set FLEET_S3_ENDPOINT and FLEET_S3_CREDENTIAL."


class StorageUnset(Unavailable):
    """There is no S3 store."""


class Storage:
    """One instance a process."""

    def __init__(
        self, settings: Settings, vault: VaultService, allowed: AllowedNetworks,
        reach: Callable[[S3Access, AllowedNetworks], ObjectStore] = S3Store,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._vault = vault
        self._allowed = allowed
        self._reach = reach
        self._kept: tuple[S3Access, ObjectStore] | None = None
        self.folder = FolderStore(settings.models)

    async def access(self) -> S3Access:
        """Return where the S3 store is and how one signs in. Raises StorageUnset, and Unavailable for a credential that cannot be used."""
        settings = self._settings
        noted = await asyncio.to_thread(known.read, settings.storage_folder)
        endpoint = settings.s3_endpoint or (noted.endpoint if noted else None)
        if endpoint is None:
            raise StorageUnset(UNSET)
        ours = noted is not None and noted.endpoint == endpoint
        name = settings.s3_credential or (noted.credential if noted and ours else None)
        if name is None:
            raise StorageUnset(f"The S3 store at {endpoint} has no credential; set FLEET_S3_CREDENTIAL to the name of one in the vault.")
        try:
            secret = await self._vault.open(name)
        except NotFound:
            raise Unavailable(f"The vault has no credential {name!r} for the S3 store; add it, or change FLEET_S3_CREDENTIAL.") from None
        authority = settings.storage_folder / known.CA_FILE
        return S3Access(
            endpoint, secret.username, secret.password or "", noted.region if noted and ours else settings.s3_region,
            authority if ours and authority.exists() else None,
        )  # fmt: skip

    async def s3(self) -> ObjectStore:
        """Return the S3 store. Raises StorageUnset and Unavailable; whether it answers is not asked."""
        access = await self.access()
        if self._kept is None or self._kept[0] != access:
            self._kept = (access, self._reach(access, self._allowed))
        return self._kept[1]

    async def models(self) -> ObjectStore:
        """Return the store of models: S3, or a folder of this machine where there is none."""
        try:
            return await self.s3()
        except StorageUnset:
            return self.folder

    async def public_url(self, key: str) -> str | None:
        """Return the address of a public output; None where there is no S3 store."""
        noted = await asyncio.to_thread(known.read, self._settings.storage_folder)
        base = self._settings.s3_public_url or self._settings.s3_endpoint or (noted.endpoint if noted else None)
        return f"{base}/{OUTPUTS}/{key}" if base else None
