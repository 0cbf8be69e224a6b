"""A control plane's vault, host keys and connections, and a real SSH server."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet_api.access.host_keys import HostKeys
from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.secret import Secret
from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.ssh.client import SshClient
from fleet_api.adapters.ssh.pool import Pool
from fleet_api.adapters.ssh.types import Target
from fleet_api.kit.allowed import AllowedNetworks
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from tests.support.sshd import PASSWORD, USER, Sshd, sshd


@dataclass
class Desk:
    """What works on machines."""

    db: Database
    vault: VaultService
    host_keys: HostKeys
    ssh: SshClient
    server: Sshd

    async def target(self, name: str = "lab", username: str = USER, **secrets: str) -> Target:
        """Return the server, reached with a new credential: the password unless other secrets are given."""
        row = await self.vault.add(name, username, secrets or {"password": PASSWORD})
        return Target(self.server.address, self.server.port, row.id, node_id="agx0")

    def brought(self, username: str = USER, **secrets: str) -> Target:
        """Return the server, reached with a secret of one's own."""
        return Target(self.server.address, self.server.port, secret=Secret(username, **(secrets or {"password": PASSWORD})))


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with sshd() as running:
        yield running


@pytest.fixture
async def desk(tmp_path: Path, _empty_database: Path, server: Sshd) -> AsyncIterator[Desk]:
    shutil.copy(_empty_database, tmp_path / "fleet.db")
    db, clock = Database(tmp_path / "fleet.db"), SystemClock()
    vault = VaultService(db, clock, Keyring(tmp_path / "vault"))
    host_keys = HostKeys(db, clock)
    ssh = SshClient(Pool(vault, host_keys, AllowedNetworks(["127.0.0.0/8"]), clock))
    vault.on_change.append(ssh.pool.forget_credential)
    yield Desk(db, vault, host_keys, ssh, server)
    await ssh.pool.close()
    await db.close()
