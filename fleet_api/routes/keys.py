"""Chapter: keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from fleet_api.access.callers import Role
from fleet_api.access.schemas import KeyBody, KeyList, KeyView, NewKey
from fleet_api.deps import CallerNamed, Fleet
from fleet_api.errors import documented

router = APIRouter(prefix="/api/keys", tags=["keys"])

SECONDS_A_DAY = 86_400
KeyId = Annotated[str, Path(description="A key's id or name", examples=["alice"])]


@router.get("", summary="Every key")
async def list_keys(fleet: Fleet) -> KeyList:
    """Return every key, newest first, never the keys themselves."""
    now = fleet.clock.now()
    return KeyList(keys=[KeyView.of(key, now) for key in await fleet.keys.every()])


@router.post("", status_code=201, summary="Make a key", responses=documented(400, 409, 413, 429))
async def create_key(fleet: Fleet, caller: CallerNamed, body: KeyBody) -> NewKey:
    """Make a key and show it, this once."""
    lifetime = body.expires_in_days * SECONDS_A_DAY if body.expires_in_days else None
    row, key = await fleet.keys.create(body.name, Role[body.role.upper()], lifetime, caller)
    return NewKey(**KeyView.of(row, fleet.clock.now()).model_dump(), key=key)


@router.delete("/{key_id}", summary="Revoke a key", responses=documented(404, 409))
async def revoke_key(fleet: Fleet, key_id: KeyId) -> KeyView:
    """Revoke a key, by its id or name; its sessions end with it."""
    return KeyView.of(await fleet.keys.revoke(key_id), fleet.clock.now())
