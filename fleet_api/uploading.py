"""Uploads a file to the model store from a client: in parts, gone on with after a broken connection or another run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet_api.client import FleetClient, FleetClientError, FleetUnreachable

PART_BYTES = 32 * 1024 * 1024
PATIENCE = 60.0  # seconds that a broken connection is tried again
CONFLICT = 409


def upload(
    client: FleetClient, file: Path, name: str, lora: bool, base: str | None, source: str | None, told: Callable[[str, int], None]
) -> dict[str, Any]:
    """Upload a file and return what was stored; ``told`` hears what is done (``reading``, ``sending``) and how many bytes of it.

    Raises:
        FleetClientError: the API refused.
        FleetUnreachable: it could not be reached for :data:`PATIENCE` seconds; another call goes on where this one was.
        OSError: the file cannot be read.
    """
    size = file.stat().st_size
    begun = {"name": name, "filename": file.name, "size": size, "sha256": digest(file, told), "base": base, "source": source}
    standing = client.begin_upload(lora, **begun)
    broken_at: float | None = None
    with file.open("rb") as stream:
        while standing["status"] != "stored":
            told("sending", standing["offset"])
            stream.seek(standing["offset"])
            try:
                standing = client.send_part(standing["upload_id"], standing["offset"], stream.read(PART_BYTES))
                broken_at = None
            except (FleetUnreachable, FleetClientError) as error:
                if isinstance(error, FleetClientError) and error.status != CONFLICT:
                    raise
                broken_at = broken_at or time.monotonic()
                if time.monotonic() - broken_at > PATIENCE:
                    raise
                time.sleep(0.5)
                standing = _standing(client, standing, error)
    told("sending", size)
    return standing


def digest(file: Path, told: Callable[[str, int], None]) -> str:
    """Return a file's SHA-256."""
    found, there = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(PART_BYTES):
            found.update(chunk)
            there += len(chunk)
            told("reading", there)
    return found.hexdigest()


def _standing(client: FleetClient, before: dict[str, Any], error: Exception) -> dict[str, Any]:
    """Return where the upload stands, or where it stood while nobody answers. Raises ``error`` where it was what ended the upload."""
    try:
        return client.upload_stands(before["upload_id"])
    except FleetUnreachable:
        return before
    except FleetClientError:
        raise error from None
