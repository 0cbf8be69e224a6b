"""Changes that a command makes on the data folder itself, in the audit log."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from fleet_api.access.repository import add_audit
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.db import Database

T = TypeVar("T")

DONE = 200


class AuditedDatabase(Database):
    """Writes an entry with each change, in the change's own transaction: neither is there without the other."""

    def __init__(self, path: Path, row: str, subject: Callable[[Any], str]) -> None:
        """``row`` is the command; ``subject`` tells from the result of a write what it hit."""
        super().__init__(path)
        self._row = row
        self._subject = subject

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """As the base's."""

        def both(connection: Connection) -> T:
            result, user = fn(connection), user_name()
            entry = {
                "at": SystemClock().now(), "caller_kind": "command", "caller_id": user, "caller_name": user, "address": "",
                "row": self._row, "path": self._subject(result), "status": DONE, "request_id": "",
            }  # fmt: skip
            add_audit(connection, [entry])
            return result

        return await super().write(both)


def user_name() -> str:
    """Return who runs this, by the operating system's word."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
