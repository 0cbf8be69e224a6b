"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from starlette.requests import HTTPConnection

SCOPE_KEY = "fleet.caller"


class Role(IntEnum):
    """What a caller may do; each role may do all that those below it may."""

    ANYONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """One who calls: a person or program with a key, somebody on this machine, or an agent.

    ``csrf_token`` is set where the caller signed in with a browser: what its changing requests must send along.
    """

    kind: Literal["local", "open", "key", "agent", "unknown"]
    id: str
    name: str
    role: Role
    csrf_token: str | None = None


LOCAL = Caller("local", "local", "local", Role.ADMIN)
"""Somebody on this machine, on a listener that nobody else can reach."""

OPEN = Caller("open", "open", "anyone", Role.ADMIN)
"""Whoever comes, where ``auth`` is off."""

UNKNOWN = Caller("unknown", "", "", Role.ANYONE)
"""Nobody that is known: only the audit log speaks of it."""


def caller_of(connection: HTTPConnection) -> Caller | None:
    """Return who calls, as the guard of this row found; None where nobody said who they are."""
    caller: Caller | None = connection.scope[SCOPE_KEY]
    return caller


def found(connection: HTTPConnection, caller: Caller) -> None:
    """Say who calls a row that anyone may call, once the row itself knows: for the audit log."""
    connection.scope[SCOPE_KEY] = caller
