"""Puts the guard of the policy before every route of the application."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.routing import APIWebSocketRoute
from starlette.routing import BaseRoute, Route

from fleet_api.access.guard import Guard
from fleet_api.access.policy import IDEMPOTENT, ROLES
from fleet_api.idempotency.layer import Once


def row_of(route: BaseRoute) -> str | None:
    """Return a route's row in the policy, such as ``GET /health``; None for a folder of files."""
    if isinstance(route, APIWebSocketRoute):
        return f"WS {route.path}"
    if isinstance(route, Route):
        [method] = (route.methods or set()) - {"HEAD"}
        return f"{method} {route.path}"
    return None


def guard(routes: Iterable[BaseRoute]) -> None:
    """Guard every route. Raises LookupError for one that the policy does not know."""
    for route in routes:
        row = row_of(route)
        if row is None:
            continue
        if row not in ROLES:
            raise LookupError(f"{row} has no role; add it to fleet_api/access/policy.py")
        if isinstance(route, (Route, APIWebSocketRoute)) and not isinstance(route.app, Guard):
            route.app = Guard(Once(route.app, row) if row in IDEMPOTENT else route.app, row)
