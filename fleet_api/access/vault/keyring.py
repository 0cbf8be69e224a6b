"""Master keys: in files of their own outside the database, in several generations while one replaces another.

By default they lie in ``vault/keys`` of the data folder, one a file, and ``vault/current`` names the one that new secrets are sealed
with. With the setting ``vault_key_file``, or a systemd credential named ``fleet-vault-key``, they are read from that one file instead,
a key a line, the current one first; such a file is never written here.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fleet_api.errors import Unavailable
from fleet_api.kit.durable import sync_folder

KEY_BYTES = 32
ID_LENGTH = 16
PATIENCE = 10.0  # seconds that another program's change is waited for
SYSTEMD_CREDENTIAL = "fleet-vault-key"


class VaultLocked(Unavailable):
    """The master key is missing, or cannot be used."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One generation. Its id is made from the key, so that a file holds the key that its name says or none."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> MasterKey:
        """Return the key with its id."""
        return cls(hashlib.sha256(b"fleet-vault key id" + secret).hexdigest()[:ID_LENGTH], secret)


class Keyring:
    """The master keys of a data folder, read from their files each time, as the command may change them while the API runs."""

    def __init__(self, folder: Path, given: Path | None = None) -> None:
        """``folder`` is the vault's; ``given`` is a file of keys from elsewhere."""
        self.folder = folder
        self.keys_folder = folder / "keys"
        self.given = given or _systemd_credential()
        self._checks_mode = given is not None

    def get(self, key_id: str) -> MasterKey:
        """Return one key. Raises VaultLocked."""
        if self.given is not None:
            keys = self._given_keys()
            for key in keys:
                if key.id == key_id:
                    return key
            raise VaultLocked(f"{self.given} does not hold the vault's master key {key_id}; add that key to the file as a further line.")
        return self._read(self.keys_folder / f"{key_id}.key")

    def current(self) -> MasterKey | None:
        """Return the key to seal with, or None where there is none yet. Raises VaultLocked."""
        if self.given is not None:
            return self._given_keys()[0]
        try:
            name = (self.folder / "current").read_text().strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise VaultLocked(f"{self.folder / 'current'} cannot be read ({error.strerror}); mend its permissions.") from None
        return self._read(self.keys_folder / f"{name}.key")

    def make(self) -> MasterKey:
        """Write a new key to the disk; it is not current yet. Raises VaultLocked."""
        if self.given is not None:
            raise VaultLocked(f"The master key comes from {self.given}; put a new key into that file as its first line.")
        key = MasterKey.of(os.urandom(KEY_BYTES))
        try:
            self.keys_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self.keys_folder / f"{key.id}.key", b64encode(key.secret) + b"\n")
        except OSError as error:
            raise VaultLocked(f"The master key cannot be written to {self.keys_folder}: {error.strerror}.") from None
        return key

    def point(self, key: MasterKey) -> None:
        """Make a key current, at once and on the disk. Raises VaultLocked."""
        try:
            _write(self.folder / "current", key.id.encode() + b"\n")
        except OSError as error:
            raise VaultLocked(f"The vault's folder {self.folder} cannot be written: {error.strerror}.") from None

    def others(self, key_id: str) -> list[str]:
        """Return the ids of the keys in the folder but this one."""
        if self.given is not None:
            return []
        return sorted(path.stem for path in self.keys_folder.glob("*.key") if path.stem != key_id)

    def remove(self, key_id: str) -> None:
        """Take a key away for ever."""
        (self.keys_folder / f"{key_id}.key").unlink(missing_ok=True)
        sync_folder(self.keys_folder)

    @asynccontextmanager
    async def held(self, alone: bool = False) -> AsyncIterator[None]:
        """Keep keys from being changed meanwhile, in every process; ``alone`` to change them. Raises VaultLocked after a while."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.fdopen(os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise VaultLocked(f"The vault's folder {self.folder} cannot be used: {error.strerror}.") from None
        with file:
            deadline = asyncio.get_running_loop().time() + PATIENCE
            while True:
                try:
                    fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if asyncio.get_running_loop().time() > deadline:
                        raise VaultLocked("Another program is changing the vault's master key; try again in a moment.") from None
                    await asyncio.sleep(0.05)
            yield

    def _read(self, path: Path) -> MasterKey:
        try:
            if path.stat().st_mode & 0o077:
                raise VaultLocked(f"Others may read the vault's master key {path}; take that away with 'chmod 600 {path}'.")
            key = _parsed(path.read_bytes())
        except FileNotFoundError:
            raise VaultLocked(
                f"The vault's master key {path} is missing; restore that file from a backup, or delete the credentials and add them again."
            ) from None
        except OSError as error:
            raise VaultLocked(f"The vault's master key {path} cannot be read: {error.strerror}.") from None
        if key is None or key.id != path.stem:
            raise VaultLocked(f"{path} does not hold the master key that its name says; restore that file from a backup.")
        return key

    def _given_keys(self) -> list[MasterKey]:
        assert self.given is not None
        try:
            if self._checks_mode and self.given.stat().st_mode & 0o007:
                raise VaultLocked(f"Others may read the vault's master key {self.given}; take that away with 'chmod o= {self.given}'.")
            lines = [line for line in self.given.read_bytes().splitlines() if line.strip()]
        except OSError as error:
            raise VaultLocked(f"The vault's master key cannot be read from {self.given}: {error.strerror}.") from None
        keys = [_parsed(line) for line in lines]
        if not keys or None in keys:
            raise VaultLocked(
                f"{self.given} must hold a master key a line: 32 random bytes in base64, as 'openssl rand -base64 32' prints."
            )
        return [key for key in keys if key is not None]


def _parsed(text: bytes) -> MasterKey | None:
    try:
        secret = b64decode(text.strip(), validate=True)
    except ValueError:
        return None
    return MasterKey.of(secret) if len(secret) == KEY_BYTES else None


def _systemd_credential() -> Path | None:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / SYSTEMD_CREDENTIAL if folder else None
    return path if path is not None and path.exists() else None


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)
