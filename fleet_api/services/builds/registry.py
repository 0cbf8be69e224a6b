"""The fleet's registry: which one it is, how one signs in, and what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fleet_api.access import registry_identity
from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.registry.client import HttpRegistry
from fleet_api.adapters.registry.types import Access, Registry
from fleet_api.errors import NotFound, Unavailable
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.settings import Settings


class RegistryUnset(Unavailable):
    """There is no registry."""


UNSET = "The fleet has no registry: run the playbook 'registry' on this data folder, or set FLEET_REGISTRY to the host and port of one."


class FleetRegistry:
    """One instance a process. What is set, or was made by the playbook, is looked up each time."""

    def __init__(
        self,
        settings: Settings,
        vault: VaultService,
        allowed: AllowedNetworks,
        reach: Callable[[Access, AllowedNetworks], Registry] = HttpRegistry,
    ) -> None:
        self._settings = settings
        self._vault = vault
        self._allowed = allowed
        self._reach = reach

    async def access(self) -> Access:
        """Return where it is and how one signs in. Raises RegistryUnset, and Unavailable for a credential that cannot be used."""
        settings = self._settings
        known = await asyncio.to_thread(registry_identity.login, settings.registry_folder)
        address = settings.registry or (known.address if known else None)
        if address is None:
            raise RegistryUnset(UNSET)
        ours = known is not None and known.address == address
        authority = settings.registry_folder / registry_identity.CA_FILE
        trusted = authority if ours and authority.exists() else None
        if settings.registry_credential:
            try:
                secret = await self._vault.open(settings.registry_credential)
            except NotFound:
                name = settings.registry_credential
                raise Unavailable(
                    f"The vault has no credential {name!r} for the registry; add it, or change FLEET_REGISTRY_CREDENTIAL."
                ) from None
            return Access(address, secret.username, secret.password or "", trusted)
        if ours and known is not None:
            return Access(address, known.username, known.password, trusted)
        return Access(address)

    async def known(self) -> Access | None:
        """Return the same, or None where there is no registry."""
        try:
            return await self.access()
        except RegistryUnset:
            return None

    async def auth_for(self, image: str) -> dict[str, str] | None:
        """Return the sign-in with which engines fetch an image; None for one that is not of the fleet's registry."""
        access = await self.known()
        return auth_of(access) if access is not None and image.startswith(f"{access.address}/") else None

    async def images(self, limit: int, offset: int) -> tuple[list[tuple[str, list[str]]], int, str]:
        """Return a page of (name, tags) by name, the number of all, and the registry's address."""
        access = await self.access()
        registry = self._reach(access, self._allowed)
        names = sorted(set(await registry.names()))
        page = names[offset : offset + limit]
        tags = await registry.tags(page) if page else {}
        return [(name, tags.get(name, [])) for name in page], len(names), access.address


def auth_of(access: Access) -> dict[str, str] | None:
    """Return the sign-in as Docker's engines take it; None where none is wanted."""
    if not access.username:
        return None
    return {"username": access.username, "password": access.password, "serveraddress": access.address}
