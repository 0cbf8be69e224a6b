"""Chapter: vault."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from fleet_api.access.vault.schemas import CredentialBody, CredentialChange, CredentialView
from fleet_api.deps import Fleet, Limit, Offset
from fleet_api.errors import documented

router = APIRouter(prefix="/api/vault", tags=["vault"])

CredentialId = Annotated[str, Path(description="A credential's id or name", examples=["lab"])]


@router.get("", summary="Every credential", responses=documented(400))
async def list_credentials(fleet: Fleet, limit: Limit = 500, offset: Offset = 0) -> list[CredentialView]:
    """Return the credentials, newest first, never a secret."""
    return [CredentialView.of(row, nodes) for row, nodes in await fleet.vault.page(limit, offset)]


@router.post("", status_code=201, summary="Keep a credential", responses=documented(400, 409, 413, 429, 503))
async def add_credential(fleet: Fleet, body: CredentialBody) -> CredentialView:
    """Keep how to sign in to machines: a password, a private key or both. A private key is opened once, to see that it can be used."""
    return CredentialView.of(await fleet.vault.add(body.name, body.username, body.secrets()), [])


@router.patch("/{cred_id}", summary="Change a credential", responses=documented(400, 404, 409, 413, 503))
async def change_credential(fleet: Fleet, cred_id: CredentialId, body: CredentialChange) -> CredentialView:
    """Rename a credential, or replace secrets of it. Connections that were opened with what was replaced are closed."""
    row = await fleet.vault.change(cred_id, body.name, body.username, body.secrets())
    return CredentialView.of(row, await fleet.vault.nodes_with(row.id))


@router.delete("/{cred_id}", summary="Delete a credential", responses=documented(404, 409))
async def remove_credential(
    fleet: Fleet, cred_id: CredentialId, force: Annotated[bool, Query(description="Also one that nodes or operations use")] = False
) -> CredentialView:
    """Delete a credential. One that a node or an unfinished operation uses stays unless ``force`` is given."""
    row = await fleet.vault.remove(cred_id, force)
    for node in [node for node in fleet.nodes.all() if node.row.credential_id == row.id]:
        await fleet.nodes.reload(node.id)
    return CredentialView.of(row, [])
