# Copyright: Fleet Commander contributors. Apache-2.0.
"""The lock of a node: a small file, read and written under an advisory lock, so that of two that come at once one gets it."""

from __future__ import annotations

import calendar
import fcntl
import json
import os
import time
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.fleet.commander.plugins.module_utils.ledger import write_file

STAMP = "%Y-%m-%dT%H:%M:%SZ"


class Held(Exception):
    """Another run works on this node; the text is a sentence."""


class Lock:
    """``boot_id`` is that of this boot, ``max_age`` in seconds."""

    def __init__(self, path: str, boot_id: str, max_age: int) -> None:
        self._path = path
        self._boot_id = boot_id
        self._max_age = max_age

    def read(self) -> dict[str, Any] | None:
        """Return the lock, or None where nobody holds it; one that cannot be understood belongs to nobody known, since its file's time."""
        try:
            with open(self._path, encoding="utf-8") as file:
                content = file.read()
                changed = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        try:
            found = json.loads(content)
            return {"owner": str(found["owner"]), "boot_id": str(found["boot_id"]), "since": str(found["since"])}
        except (ValueError, KeyError, TypeError):
            return {"owner": "somebody", "boot_id": self._boot_id, "since": time.strftime(STAMP, time.gmtime(changed))}

    def take(self, owner: str, checking: bool = False) -> str | None:
        """Take it for ``owner``, and return a warning where it was taken over. Raises Held and OSError."""
        with self._guard():
            held = self.read()
            warning = self._takeover(held) if held is not None and held["owner"] != owner else None
            if not checking:
                since = held["since"] if held is not None and held["owner"] == owner else time.strftime(STAMP, time.gmtime())
                content = json.dumps({"owner": owner, "boot_id": self._boot_id, "since": since})
                write_file(self._path, content.encode("utf-8"), 0o644)
        return warning

    def free(self, owner: str, checking: bool = False) -> bool:
        """Free it if ``owner`` holds it, and say whether that was so. Raises OSError."""
        with self._guard():
            held = self.read()
            if held is None or held["owner"] != owner:
                return False
            if not checking:
                os.unlink(self._path)
            return True

    def _takeover(self, held: dict[str, Any]) -> str:
        if held["boot_id"] != self._boot_id:
            reason = "the node was started again since"
        elif not -60 <= time.time() - _seconds(held["since"]) <= self._max_age:
            reason = f"that is longer than {self._max_age} s ago"
        else:
            raise Held(
                "Another run works on this node: {owner} has held it since {since}; wait for its end, or, if it is gone, "
                "remove {path} on the node.".format(path=self._path, **held)
            )
        return "The lock of {owner}, held since {since}, was taken over: {reason}.".format(reason=reason, **held)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
        with open(self._path + ".guard", "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _seconds(stamp: str) -> float:
    try:
        return float(calendar.timegm(time.strptime(stamp, STAMP)))
    except ValueError:
        return 0.0
