"""A data folder with something in it, for tests of backups."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.service import VaultService
from fleet_api.backups.making import Backups
from fleet_api.backups.targets import FolderTarget
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade

SECRET = "what-only-the-vault-knows"


def made(home: Path, outputs: int = 3) -> Path:
    """Make a data folder with a credential, settings, keys with links, and outputs."""
    home.mkdir(mode=0o700, parents=True)
    upgrade(home / "fleet.db")
    asyncio.run(_credential(home))
    (home / "fleet.toml").write_text("keep_jobs = 5\n")
    (home / "storage").mkdir()
    (home / "storage" / "store.json").write_text('{"endpoint": "http://192.0.2.10:9010", "credential": "object-storage"}')
    (home / "tls" / "served-1").mkdir(parents=True)
    (home / "tls" / "served-1" / "server.key").write_text("the server's key")
    (home / "tls" / "served").symlink_to("served-1")
    (home / "tls" / "server.key").symlink_to("served/server.key")
    (home / "outputs" / ".incoming").mkdir(parents=True)
    (home / "outputs" / ".incoming" / "half").write_bytes(b"half")
    for number in range(outputs):
        (home / "outputs" / f"image_{number}.png").write_bytes(bytes([number]) * 100_000)
    return home


def backups(home: Path, folder: Path | None = None, keep: int = 14) -> Backups:
    """Return the backups of a data folder."""
    return Backups(home, FolderTarget(folder or home / "backups"), keep)


def tree(folder: Path) -> dict[str, Any]:
    """Return what a data folder holds, of that which a restore must not change by halves."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] in ("backups", "before-restore", "backup.lock", "api.lock", "up.lock", "fleet.db-wal", "fleet.db-shm"):
            continue
        if name == "vault/lock":
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif name == "fleet.db":
            found[name] = credentials(path)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def credentials(database: Path) -> list[str]:
    """Return the names of the vault's credentials."""
    with sqlite3.connect(database) as connection:
        found = [row[0] for row in connection.execute("SELECT name FROM credentials ORDER BY name")]
    connection.close()
    return found


def add_credential(home: Path, name: str) -> None:
    """Keep another credential."""
    asyncio.run(_credential(home, name))


def opened(home: Path, name: str) -> str | None:
    """Return a credential's password, opened by the keys of the folder."""

    async def run() -> str | None:
        db = Database(home / "fleet.db")
        try:
            return (await VaultService(db, SystemClock(), Keyring(home / "vault")).open(name)).password
        finally:
            await db.close()

    return asyncio.run(run())


async def _credential(home: Path, name: str = "lab") -> None:
    db = Database(home / "fleet.db")
    try:
        await VaultService(db, SystemClock(), Keyring(home / "vault")).add(name, "me", {"password": SECRET})
    finally:
        await db.close()
