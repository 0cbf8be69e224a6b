"""The secret that messages are signed with: made at first use, kept sealed, replaced on demand.

It is shown by a command on the data folder alone; no row of the API tells it.
"""

from __future__ import annotations

import asyncio
import uuid

import structlog
from sqlalchemy import Connection

from fleet_api.access.vault.envelope import Damaged, Place, seal, unseal
from fleet_api.access.vault.keyring import VaultLocked
from fleet_api.access.vault.repository import WEBHOOK_SECRETS
from fleet_api.access.vault.service import VaultService
from fleet_api.callbacks import repository
from fleet_api.callbacks.models import WebhookSecret
from fleet_api.callbacks.signing import new_secret
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database

log = structlog.get_logger()

OVERLAP_SECONDS = 86_400.0
"""So long after it was replaced the old secret signs too, for receivers to change over."""

FIELD = "secret"


class WebhookSecrets:
    """Used by the API and by the command, both on the rows: neither remembers a secret."""

    def __init__(self, db: Database, clock: Clock, vault: VaultService) -> None:
        self._db = db
        self._clock = clock
        self._vault = vault
        self._making = asyncio.Lock()

    async def signing(self) -> list[str]:
        """Return the secrets to sign with, the present one first; it is made now if there is none. Raises VaultLocked."""
        async with self._making:  # the first messages ever may come together
            rows = await self._db.read(self._found)
            if not rows or rows[0].replaced_at is not None:
                return [await self.show(), *self._older(rows)]
        return [self._opened(rows[0]), *self._older(rows[1:])]

    async def show(self) -> str:
        """Return the present secret; it is made now if there is none. A write, so that a command that shows it is audited."""
        async with self._vault.keyring.held():
            fresh = await self._fresh()

            def find_or_add(db: Connection) -> WebhookSecret:
                rows = self._found(db)
                if rows and rows[0].replaced_at is None:
                    return rows[0]
                repository.add_secret(db, fresh)
                return fresh

            return self._opened(await self._db.write(find_or_add))

    async def rotate(self) -> str:
        """Put a new secret in the present one's place, which signs too for :data:`OVERLAP_SECONDS`. Raises VaultLocked."""
        async with self._vault.keyring.held():
            row = await self._fresh()

            def replace(db: Connection) -> WebhookSecret:
                repository.replace_secret(db, row, row.created_at - OVERLAP_SECONDS)
                return row

            return self._opened(await self._db.write(replace))

    async def _fresh(self) -> WebhookSecret:
        key, row_id = await self._vault.sealing_key(), str(uuid.uuid4())
        sealed = seal(key, Place(row_id, 1, WEBHOOK_SECRETS), {FIELD: new_secret()})
        return WebhookSecret(id=row_id, sealed=sealed, key_id=key.id, created_at=self._clock.now())

    def _found(self, db: Connection) -> list[WebhookSecret]:
        return repository.signing(db, self._clock.now() - OVERLAP_SECONDS)

    def _older(self, rows: list[WebhookSecret]) -> list[str]:
        found = []
        for row in rows:
            try:
                found.append(self._opened(row))
            except VaultLocked as error:
                log.warning("old_webhook_secret_not_opened", reason=error.detail)
        return found

    def _opened(self, row: WebhookSecret) -> str:
        try:
            return unseal(self._vault.keyring.get(row.key_id), Place(row.id, 1, WEBHOOK_SECRETS), row.sealed)[FIELD]
        except (Damaged, KeyError, VaultLocked):
            raise VaultLocked(
                "The webhooks' secret does not open: its row was changed from outside, or its master key is missing. Restore the folder "
                "vault/ from a backup, or make a new secret with 'fleet webhook-secret rotate' and give that to the receivers."
            ) from None
