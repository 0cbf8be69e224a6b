# Copyright: Fleet Commander contributors. Apache-2.0.
"""What a node was like before Fleet Commander changed it, kept on the node, so that retiring it gives it back as it was found.

Guarantees: an entry is written before the change that it is about, and is on disk then; a first entry is never overwritten, so that it
tells of the node as found and not of an earlier run of ours. One file an entry, readable by root alone. Runs come one at a time: the
lock of ``fleet_node_lock`` sees to that.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from typing import Any
from urllib.parse import quote, unquote

ROOT = "/var/lib/fleet/ledger"


class Ledger:
    """Entries of one kind, such as ``file``; ``root`` is the ledger's folder."""

    def __init__(self, kind: str, root: str = ROOT) -> None:
        self._folder = os.path.join(root, kind)

    def get(self, name: str) -> dict[str, Any] | None:
        """Return what was noted of ``name``, or None."""
        try:
            with open(self._path(name), encoding="utf-8") as file:
                entry: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return None
        return entry

    def note(self, name: str, before: dict[str, Any]) -> None:
        """Keep ``before`` for ``name`` unless something is kept already."""
        if not os.path.exists(self._path(name)):
            self.put(name, before)

    def put(self, name: str, entry: dict[str, Any]) -> None:
        """Keep ``entry`` for ``name`` in place of what was kept."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        write_file(self._path(name), json.dumps(entry, indent=1, sort_keys=True).encode("utf-8") + b"\n", 0o600)

    def forget(self, name: str) -> None:
        """Drop what was noted of ``name``, and folders that are empty then."""
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            return
        folder = self._folder
        for _ in range(3):  # the kind, the ledger, and the folder that is Fleet Commander's own
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def names(self) -> list[str]:
        """Return what there are entries about, sorted."""
        files = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        return sorted(unquote(file[: -len(".json")]) for file in files if file.endswith(".json"))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, quote(name, safe="") + ".json")


def encoded(content: bytes) -> str:
    """Return a file's content as JSON can hold it."""
    return base64.b64encode(content).decode("ascii")


def decoded(text: str) -> bytes:
    """Return what :func:`encoded` was given."""
    return base64.b64decode(text)


def write_file(path: str, content: bytes, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Put ``content`` at ``path`` all at once: after a crash there is the old file or the new one. Raises OSError."""
    handle, temporary = tempfile.mkstemp(prefix=".fleet-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if (uid, gid) != (-1, -1):
                os.fchown(file.fileno(), uid, gid)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
