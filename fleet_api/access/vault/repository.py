"""SQL of the vault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fleet_api.access.vault.envelope import TABLE, Place
from fleet_api.access.vault.models import Credential
from fleet_api.callbacks.models import WebhookSecret
from fleet_api.nodes.models import Node
from fleet_api.operations.models import Operation

credentials = Credential.__table__  # type: ignore[attr-defined]
nodes = Node.__table__  # type: ignore[attr-defined]
operations = Operation.__table__  # type: ignore[attr-defined]
webhook_secrets = WebhookSecret.__table__  # type: ignore[attr-defined]

WEBHOOK_SECRETS = "webhook_secrets"
UNFINISHED = ("queued", "running")


def add(db: Connection, row: Credential) -> None:
    """Insert a credential."""
    db.execute(insert(credentials).values(**row.model_dump()))


def get(db: Connection, credential_id: str) -> Credential | None:
    """Return one credential."""
    row = db.execute(select(credentials).where(credentials.c.id == credential_id)).mappings().first()
    return Credential(**row) if row else None


def named(db: Connection, name: str) -> Credential | None:
    """Return the credential of this name."""
    row = db.execute(select(credentials).where(credentials.c.name == name)).mappings().first()
    return Credential(**row) if row else None


def version(db: Connection, credential_id: str) -> int | None:
    """Return the version of a credential's secrets."""
    found: int | None = db.execute(select(credentials.c.version).where(credentials.c.id == credential_id)).scalar_one_or_none()
    return found


def page(db: Connection, limit: int | None, offset: int) -> list[Credential]:
    """Return credentials, newest first; all of them without a limit."""
    order = credentials.c.created_at.desc(), credentials.c.id
    query = select(credentials).order_by(*order).limit(limit).offset(offset)
    return [Credential(**row) for row in db.execute(query).mappings()]


def change(db: Connection, credential_id: str, was: int, **values: Any) -> bool:
    """Set columns of a credential whose version still is ``was``. Say whether it was."""
    where = (credentials.c.id == credential_id, credentials.c.version == was)
    return bool(db.execute(update(credentials).where(*where).values(**values)).rowcount)


def used(db: Connection, credential_id: str, now: float) -> None:
    """Note when a credential was used."""
    db.execute(update(credentials).where(credentials.c.id == credential_id).values(last_used_at=now))


@dataclass(frozen=True, slots=True)
class SealedRow:
    """Any row that holds envelopes: a credential, or a secret that webhooks are signed with."""

    name: str
    place: Place
    sealed: str
    key_id: str


def sealed_rows(db: Connection) -> list[SealedRow]:
    """Return every row that holds envelopes."""
    found = [SealedRow(row.name, Place(row.id, row.version), row.sealed, row.key_id) for row in page(db, None, 0)]
    query = select(webhook_secrets.c.id, webhook_secrets.c.sealed, webhook_secrets.c.key_id).order_by(webhook_secrets.c.created_at)
    place = WEBHOOK_SECRETS
    return found + [SealedRow("the webhooks' secret", Place(row_id, 1, place), text, key_id) for row_id, text, key_id in db.execute(query)]


def rewrapped(db: Connection, row: SealedRow, key_id: str, sealed: str) -> bool:
    """Store a row's envelopes under another master key, unless they were changed meanwhile. Say whether they were stored."""
    table = credentials if row.place.table == TABLE else webhook_secrets
    where = (table.c.id == row.place.row_id, table.c.sealed == row.sealed)
    return bool(db.execute(update(table).where(*where).values(key_id=key_id, sealed=sealed)).rowcount)


def remove(db: Connection, credential_id: str) -> None:
    """Delete a credential, and forget it in the nodes that use it."""
    db.execute(update(nodes).where(nodes.c.credential_id == credential_id).values(credential_id=None))
    db.execute(delete(credentials).where(credentials.c.id == credential_id))


def count(db: Connection) -> int:
    """Return how many credentials there are."""
    return int(db.execute(select(func.count()).select_from(credentials)).scalar_one())


def sealed_with(db: Connection, key_id: str) -> int:
    """Return how many rows of any table are sealed under a master key."""
    tables = (credentials, webhook_secrets)
    return sum(db.execute(select(func.count()).select_from(each).where(each.c.key_id == key_id)).scalar_one() for each in tables)


def nodes_with(db: Connection, credential_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids of the nodes that use each of these credentials."""
    found: dict[str, list[str]] = {each: [] for each in credential_ids}
    query = select(nodes.c.id, nodes.c.credential_id).where(nodes.c.credential_id.in_(list(found))).order_by(nodes.c.id)
    for node_id, credential_id in db.execute(query):
        found[credential_id].append(node_id)
    return found


def operations_with(db: Connection, credential_id: str) -> list[str]:
    """Return the ids of the operations that wait or run and were asked to use this credential."""
    query = select(operations.c.id, operations.c.request).where(operations.c.state.in_(UNFINISHED)).order_by(operations.c.created_at)
    return [operation_id for operation_id, request in db.execute(query) if request.get("credential_id") == credential_id]
