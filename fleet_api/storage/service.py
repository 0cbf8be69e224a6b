"""The fleet's object store. What is set, or was made by the playbook, is looked up each time; one client is kept for each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, Field

from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.object_store.folder import FolderStore
from fleet_api.adapters.object_store.s3 import S3Store
from fleet_api.adapters.object_store.types import ObjectStore, S3Access
from fleet_api.errors import FleetError, NotFound, Unavailable
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.kit.clock import Clock
from fleet_api.settings import Settings
from fleet_api.storage import known
from fleet_api.storage.buckets import OUTPUTS

UNSET = "The fleet has no S3 store: run the playbook 'storage' on this data folder, or set FLEET_S3_ENDPOINT and FLEET_S3_CREDENTIAL."


T = TypeVar("T")
THREADS = 8
STATE_SECONDS = 10.0
PATIENCE_SECONDS = 1.0


class StorageUnset(Unavailable):
    """There is no S3 store."""


class StoreState(BaseModel):
    """The S3 store: ``ok``, ``away`` (``detail`` says why) or ``unset``."""

    status: str = Field(examples=["ok"])
    endpoint: str | None = Field(examples=["http://192.0.2.10:9010"])
    detail: str | None


class Storage:
    """One instance a process."""

    def __init__(
        self, settings: Settings, clock: Clock, vault: VaultService, allowed: AllowedNetworks,
        reach: Callable[[S3Access, AllowedNetworks], ObjectStore] = S3Store,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._clock = clock
        self._vault = vault
        self._allowed = allowed
        self._reach = reach
        self._kept: tuple[S3Access, ObjectStore] | None = None
        self._state: tuple[float, StoreState] | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="object-store")
        self._asking: asyncio.Task[None] | None = None
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

    async def public_urls(self) -> Callable[[str], str | None]:
        """Return what tells the address of a public output of its key; None where there is no S3 store."""
        noted = await asyncio.to_thread(known.read, self._settings.storage_folder)
        base = self._settings.s3_public_url or self._settings.s3_endpoint or (noted.endpoint if noted else None)
        return lambda key: f"{base}/{OUTPUTS}/{quote(key)}" if base else None

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        """Do something at the store in a thread of the store's own, so that one that hangs holds up nothing else."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    async def state(self) -> StoreState:
        """Say whether the S3 store answers: what was found last, asked again where that is old. Waits :data:`PATIENCE_SECONDS` at most."""
        if self._state is None or self._clock.monotonic() - self._state[0] > STATE_SECONDS:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._remember())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await asyncio.shield(self._asking)
        return self._state[1] if self._state else StoreState(status="away", endpoint=None, detail="The object store has not answered yet.")

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _remember(self) -> None:
        found = await self._ask()
        self._state = self._clock.monotonic(), found

    async def _ask(self) -> StoreState:
        endpoint = None
        try:
            endpoint = (await self.access()).endpoint
            await self.run((await self.s3()).check)
        except StorageUnset as error:
            return StoreState(status="unset", endpoint=None, detail=error.detail)
        except FleetError as error:
            return StoreState(status="away", endpoint=endpoint, detail=error.detail)
        return StoreState(status="ok", endpoint=endpoint, detail=None)
