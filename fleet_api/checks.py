"""What ``GET /health`` finds out, each time it is asked: nothing here is remembered."""

from __future__ import annotations

import asyncio
import os
import shutil

from fleet_api.errors import FleetError
from fleet_api.kit.db import BUSY_TIMEOUT_MS
from fleet_api.lifespan import State

OK = "ok"
VITAL = frozenset({"database", "outputs", "background"})
WRITE_SECONDS = BUSY_TIMEOUT_MS / 1000 + 1  # so that a database that is locked says so itself
LEAST_FREE = 64 * 1024 * 1024  # bytes: a few pictures


async def run(fleet: State) -> dict[str, str]:
    """Return each check's name with ``ok`` or a sentence."""
    return {
        "database": await _database(fleet),
        "outputs": await asyncio.to_thread(_outputs, fleet),
        "background": _background(fleet),
        "generation": OK if fleet.catalogue.ready() else "No node that is online can serve the default model.",
    }


async def _database(fleet: State) -> str:
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await fleet.db.prove()
    except TimeoutError:
        return f"The database did not take a write within {WRITE_SECONDS:.0f} s."
    except FleetError as error:
        return error.detail
    return OK


def _outputs(fleet: State) -> str:
    folder = fleet.settings.outputs
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"The outputs folder cannot be used: {error.strerror}."
    if not os.access(folder, os.W_OK):
        return "The outputs folder cannot be written."
    return OK if free >= LEAST_FREE else f"The outputs' disk has {free // 1024**2} MiB left."


def _background(fleet: State) -> str:
    late = [service.name for service in fleet.services if not service.in_time()]
    return OK if not late else f"These services have not run in time: {', '.join(late)}."
