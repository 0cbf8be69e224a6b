"""How a command reaches the control plane of its own data folder, for which no key is needed, as whoever has the folder may make one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleet_api.cli.common import calling
from fleet_api.cli.local import settings_of, with_database
from fleet_api.client import UNAUTHORIZED, FleetClient, FleetClientError, Whereabouts

if TYPE_CHECKING:
    from fleet_api.settings import Settings


@contextmanager
def reaching(url: str | None, row: str, seconds: float) -> Iterator[FleetClient]:
    """Give a client; one without a key, on the control plane's own data folder, gets one for as long as this takes.

    ``row`` is the command, as the audit has it, and ``seconds`` the longest that it may take.
    """
    settings = settings_of(None)
    with calling(url) as client:
        try:
            client.status()
        except FleetClientError as error:
            own = Whereabouts.find(None, None, None)
            if error.status != UNAUTHORIZED or client.url != own.url or own.key or not settings.database.exists():
                raise
        else:
            yield client
            return
    with _passing_key(settings, row, seconds) as key, calling(None, key) as client:
        yield client


@contextmanager
def _passing_key(settings: Settings, row: str, seconds: float) -> Iterator[str]:
    from fleet_api.access import keys
    from fleet_api.access.callers import Role
    from fleet_api.kit.clock import SystemClock

    name, lifetime = f"{row.replace(' ', '-')}-{time.time_ns()}", seconds + 120
    made, key = with_database(settings, lambda db: keys.create_key(db, SystemClock(), name, Role.ADMIN, lifetime), row, lambda _: name)
    try:
        yield key
    finally:
        with_database(settings, lambda db: keys.forget_key(db, made.id), row, lambda _: name)
