"""Variables of containers, whose values may be secrets: not in the rows of operations, and not shown where their name says secret."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from fleet_api.errors import Conflict

SECRET = re.compile(
    r"(?i)passw|passphrase|secret|token|credential|private|api_?key|access_?key|auth"
    r"|(?:pass|pwd|key|dsn)$|(?:^|[_.-])(?:pass|pwd|pw|key|keys|dsn)(?:[_.-]|$)"
)
SIGN_IN = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/?#\s]+@")
"""A user, and mostly a password, in an address such as postgres://fleet:...@db/fleet."""

NOT_KEPT = "[not kept]"
HIDDEN = "[secret]"


def shown(env: Sequence[str]) -> list[str]:
    """Return variables as anyone may see them: without values whose name says that they are secret, and sign-ins in addresses."""
    return [
        f"{name}={HIDDEN}" if SECRET.search(name) and value else SIGN_IN.sub(rf"\1{HIDDEN}@", each)
        for each in env
        for name, _, value in [each.partition("=")]
    ]


class Environments:
    """Values on their way from a request to its operation: in memory alone, so gone with a restart."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}

    def kept(self, env: Sequence[str]) -> list[str]:
        """Return what a row may hold: the names."""
        return [f"{each.partition('=')[0]}={NOT_KEPT}" for each in env]

    def put(self, operation_id: str, env: Sequence[str]) -> None:
        """Hold the values until the operation takes them."""
        if env:
            self._values[operation_id] = list(env)

    def keep_only(self, operation_ids: Collection[str]) -> None:
        """Let go of the values for operations that are over, such as those that were cancelled before they began."""
        self._values = {each: values for each, values in self._values.items() if each in operation_ids}

    def take(self, operation_id: str, names: Sequence[str]) -> list[str]:
        """Return the values for an operation. Raises Conflict where they are gone: after a restart, or for a retry."""
        found = self._values.pop(operation_id, None)
        if found is None and names:
            raise Conflict("env: the values of its variables are not kept with an operation; ask for the deploy anew, with them.")
        return found or []
