"""Kept connections: one to each machine and credential, opened once however many ask, closed when nobody has used it for long."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import asyncssh

from fleet_api.access.vault.secret import FIELDS, Secret
from fleet_api.adapters.ssh.connect import PinnedKeys, open_connection
from fleet_api.adapters.ssh.errors import ConnectionBroke, TooManyConnections
from fleet_api.adapters.ssh.types import Target
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.kit.clock import Clock

IDLE_SECONDS = 600.0
LIMIT = 512
SESSIONS = 8
"""Commands at once on one connection: OpenSSH allows ten by default, and two are left for what follows logs."""

KEYS_KEPT = 64

Key = tuple[str, int, str, int]
"""Address, port, credential and its version."""


class Vault(Protocol):
    """What the pool wants of the vault."""

    async def open(self, credential_id: str) -> Secret:
        """Return the secrets of a credential."""
        ...

    async def version(self, credential_id: str) -> int:
        """Return the version of a credential's secrets."""
        ...

    async def used(self, credential_id: str) -> None:
        """Note that it was used."""
        ...


@dataclass(slots=True, eq=False)
class Kept:
    """One connection, or the attempt to open it. ``slow`` says that the login shell is, once somebody has looked."""

    opening: asyncio.Task[asyncssh.SSHClientConnection]
    last_used: float
    users: int = 0
    looked: bool = False
    slow: str | None = None
    sessions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SESSIONS))

    @property
    def dead(self) -> bool:
        """Whether it cannot be used any more."""
        if not self.opening.done():
            return False
        if self.opening.cancelled() or self.opening.exception() is not None:
            return True
        return self.opening.result().is_closed()

    def close(self) -> None:
        """Close it, or give the attempt up."""
        if not self.opening.done():
            self.opening.cancel()
        elif not self.dead:
            self.opening.result().close()


class Pool:
    """One instance a process, used on the event loop only."""

    def __init__(self, vault: Vault, host_keys: PinnedKeys, allowed: AllowedNetworks, clock: Clock, limit: int = LIMIT) -> None:
        self.vault = vault
        self._host_keys = host_keys
        self._allowed = allowed
        self._clock = clock
        self._limit = limit
        self._kept: dict[Key, Kept] = {}
        self._client_keys: dict[tuple[str, int], asyncio.Task[asyncssh.SSHKey]] = {}
        self._hashing = os.urandom(32)

    @asynccontextmanager
    async def lent(self, target: Target) -> AsyncIterator[Kept]:
        """Lend the connection to a target, opened now if there is none.

        Raises what :func:`open_connection` does, AddressNotAllowed, NameUnknown, NotFound for the credential, and TooManyConnections.
        """
        address = await self._allowed.resolve(target.host)
        key = (address, target.port, *await self._identity(target))
        kept = self._kept.get(key)
        if kept is None or kept.dead:
            kept = self._open(key, target)
        kept.users += 1
        try:
            await self._opened_or_told(kept, target)
            yield kept
        finally:
            kept.users -= 1
            kept.last_used = self._clock.monotonic()
            if kept.dead and self._kept.get(key) is kept:
                del self._kept[key]

    async def _opened_or_told(self, kept: Kept, target: Target) -> None:
        """Wait for the connection. Raises ConnectionBroke where somebody closed it meanwhile, as when its credential was changed."""
        try:
            await asyncio.shield(kept.opening)
        except asyncio.CancelledError:
            if kept.opening.cancelled():  # else it is the caller who was cancelled
                raise ConnectionBroke(f"The connection to {target.name} was closed while it was being opened; try again.") from None
            raise

    def drop(self, kept: Kept) -> None:
        """Close a connection that turned out to be of no use."""
        kept.close()
        for key, each in list(self._kept.items()):
            if each is kept:
                del self._kept[key]

    def forget(self, address: str, port: int) -> None:
        """Close what is open to an address."""
        self._close([key for key in self._kept if key[:2] == (address, port)])

    def forget_credential(self, credential_id: str) -> None:
        """Close what was opened with a credential."""
        self._close([key for key in self._kept if key[2] == credential_id])
        for name in [name for name in self._client_keys if name[0] == credential_id]:
            del self._client_keys[name]

    async def sweep(self) -> None:
        """Close what nobody has used for :data:`IDLE_SECONDS`."""
        now = self._clock.monotonic()
        idle = [key for key, kept in self._kept.items() if not kept.users and (kept.dead or now - kept.last_used > IDLE_SECONDS)]
        self._close(idle)
        in_use = {(key[2], key[3]) for key in self._kept}
        self._client_keys = {name: task for name, task in self._client_keys.items() if name in in_use}

    async def close(self) -> None:
        """Close every connection."""
        kept = list(self._kept.values())
        self._close(list(self._kept))
        for each in kept:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    [opened] = await asyncio.gather(each.opening, return_exceptions=True)
                    if not isinstance(opened, BaseException):
                        await opened.wait_closed()

    @property
    def size(self) -> int:
        """How many connections there are."""
        return len(self._kept)

    def _open(self, key: Key, target: Target) -> Kept:
        self._make_room()
        opening = asyncio.get_running_loop().create_task(self._opened(key, target), name=f"ssh to {target.name}")
        opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # so that nobody has to be waiting for it
        kept = self._kept[key] = Kept(opening, self._clock.monotonic())
        return kept

    async def _opened(self, key: Key, target: Target) -> asyncssh.SSHClientConnection:
        secret = target.secret or await self.vault.open(target.credential_id)
        client_key = await self._client_key(key[2:], secret) if secret.private_key else None
        connection = await open_connection(key[0], key[1], secret, client_key, self._host_keys, target.name)
        if not target.secret:
            await self.vault.used(secret.credential_id)
        return connection

    async def _client_key(self, name: tuple[str, int], secret: Secret) -> asyncssh.SSHKey:
        """Return the private key, opened once for all machines: an encrypted one may take a second."""
        task = self._client_keys.get(name)
        if task is None:
            assert secret.private_key is not None
            opening = asyncio.to_thread(asyncssh.import_private_key, secret.private_key, secret.passphrase)
            task = asyncio.get_running_loop().create_task(opening)
            if len(self._client_keys) < KEYS_KEPT:
                self._client_keys[name] = task
        return await asyncio.shield(task)

    async def _identity(self, target: Target) -> tuple[str, int]:
        if target.secret is None:
            return target.credential_id, await self.vault.version(target.credential_id)
        parts = [target.secret.username, *(getattr(target.secret, name) or "" for name in FIELDS)]
        text = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        return "brought " + hmac.new(self._hashing, text, hashlib.sha256).hexdigest(), 0

    def _make_room(self) -> None:
        if len(self._kept) < self._limit:
            return
        idle = [(kept.last_used, key) for key, kept in self._kept.items() if not kept.users]
        if not idle:
            raise TooManyConnections(f"All of the {self._limit} SSH connections that may be open are in use; try again in a moment.")
        self._close([min(idle)[1]])

    def _close(self, keys: list[Key]) -> None:
        for key in keys:
            self._kept.pop(key).close()
