"""Replacing the vault's master key. A stop at any step leaves every secret open to the keys that lie there.

The steps: a new key is written; it becomes the current one; each row's data keys are wrapped anew; a key that no row needs any more
is removed. Starting again does what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from fleet_api.access.vault import repository
from fleet_api.access.vault.envelope import Damaged, rewrap
from fleet_api.access.vault.keyring import Keyring, MasterKey, VaultLocked
from fleet_api.access.vault.repository import SealedRow
from fleet_api.kit.db import Database

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. ``left`` are the names of credentials that do not open and stay under their old key."""

    key_id: str
    rewrapped: int
    removed: list[str]
    left: list[str]


async def rotate(db: Database, keyring: Keyring, step: Callable[[str], None] = lambda _: None) -> Rotated:
    """Put every credential under a new master key. ``step`` is told what comes next. Raises VaultLocked.

    Where the last rotation did not come to its end, that one is finished, and no further key is made.
    """
    async with keyring.held(alone=True):
        rows = await db.read(repository.sealed_rows)
        key = keyring.current()
        if key is None and rows:
            raise VaultLocked(f"The vault's master key is missing from {keyring.keys_folder}; restore that folder from a backup first.")
        rewrapped, left = await _rewrap_all(db, keyring, key, rows, step) if key is not None else (0, [])
        if key is None or (not rewrapped and keyring.given is None):
            step("make a key")
            key = keyring.make()
            step("make it current")
            keyring.point(key)
            rows = await db.read(repository.sealed_rows)
            rewrapped, left = await _rewrap_all(db, keyring, key, rows, step)
        removed = []
        for other in keyring.others(key.id):
            if not await db.read(lambda connection, other=other: repository.sealed_with(connection, other)):  # type: ignore[misc]
                step(f"remove {other}")
                keyring.remove(other)
                removed.append(other)
        return Rotated(key.id, rewrapped, removed, left)


async def _rewrap_all(
    db: Database, keyring: Keyring, key: MasterKey, rows: Sequence[SealedRow], step: Callable[[str], None]
) -> tuple[int, list[str]]:
    done, left = 0, []
    for row in rows:
        if row.key_id != key.id:
            step(f"rewrap {row.name}")
            if await _rewrap(db, keyring, key, row):
                done += 1
            else:
                left.append(row.name)
    return done, left


async def _rewrap(db: Database, keyring: Keyring, key: MasterKey, row: SealedRow) -> bool:
    try:
        sealed = rewrap(keyring.get(row.key_id), key, row.place, row.sealed)
    except (Damaged, VaultLocked) as error:
        log.error("credential_not_rewrapped", row=row.place.row_id, reason=getattr(error, "detail", "damaged"))
        return False
    return await db.write(lambda connection: repository.rewrapped(connection, row, key.id, sealed))
