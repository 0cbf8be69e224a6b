# Copyright: Fleet Commander contributors. Apache-2.0.
"""Files and folders with a way back. A file is ours as a whole, or only some lines or JSON keys of it are."""

from __future__ import annotations

import json
import os
import stat
from typing import Any, NamedTuple

from ansible_collections.fleet.commander.plugins.module_utils.ledger import ROOT, Ledger, decoded, encoded, write_file


class NotOurs(Exception):
    """A path cannot be changed as asked; the text is a sentence."""


class Stat(NamedTuple):
    """What is at a path; ``content`` is None for a folder."""

    kind: str
    content: bytes | None = None
    mode: int = 0
    uid: int = 0
    gid: int = 0


ABSENT = Stat("absent")


def look(path: str) -> Stat:
    """Return what is at ``path``. Raises NotOurs for what is neither file nor folder."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return ABSENT
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISDIR(found.st_mode):
        return Stat("directory", None, mode, found.st_uid, found.st_gid)
    if not stat.S_ISREG(found.st_mode):
        raise NotOurs(f"{path} is neither a file nor a folder; move it out of the way.")
    with open(path, "rb") as file:
        return Stat("file", file.read(), mode, found.st_uid, found.st_gid)


class Place:
    """One path and what the ledger has of it. ``before`` is what was there when Fleet Commander first came."""

    def __init__(self, path: str, root: str = ROOT) -> None:
        self.path = path
        self._ledger = Ledger("file", root)
        self.now = look(path)

    @property
    def entry(self) -> dict[str, Any] | None:
        """What was noted."""
        return self._ledger.get(self.path)

    def put(self, wanted: Stat, entry: dict[str, Any], folder_mode: int = 0o755) -> None:
        """Note what is there, with ``entry``, and put ``wanted`` there. Folders made for it get ``folder_mode``. Raises OSError."""
        missing = []
        folder = os.path.dirname(self.path)
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            self._ledger.note(folder, {"kind": "absent"})
            os.mkdir(folder)
            os.chmod(folder, folder_mode)
            if folder_mode != 0o755:  # a private one is the file's owner's
                os.chown(folder, wanted.uid, wanted.gid)
        noted = self.entry
        self._ledger.put(self.path, {**_noted(self.now), **(noted or {}), **entry})
        self._write(wanted)

    def give_back(self, wanted: Stat) -> None:
        """Put ``wanted`` there, forget the path, and remove folders that were made for it and are empty now. Raises OSError."""
        self._write(wanted)
        self._ledger.forget(self.path)
        folder = os.path.dirname(self.path)
        while (self._ledger.get(folder) or {}).get("kind") == "absent":
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                return
            self._ledger.forget(folder)
            folder = os.path.dirname(folder)

    def _write(self, wanted: Stat) -> None:
        if wanted.kind == "absent":
            if self.now.kind == "file":
                os.unlink(self.path)
            elif self.now.kind == "directory":
                os.rmdir(self.path)
        elif wanted.kind == "directory":
            if self.now.kind == "absent":
                os.mkdir(self.path, wanted.mode)
            os.chmod(self.path, wanted.mode)
            os.chown(self.path, wanted.uid, wanted.gid)
        else:
            # Through a link, as the link itself is the node's.
            write_file(os.path.realpath(self.path), wanted.content or b"", wanted.mode, wanted.uid, wanted.gid)


def before(entry: dict[str, Any]) -> Stat:
    """Return what an entry says was there."""
    if entry["kind"] == "absent":
        return ABSENT
    content = decoded(entry["content"]) if entry["kind"] == "file" else None
    return Stat(entry["kind"], content, entry["mode"], entry["uid"], entry["gid"])


def _noted(found: Stat) -> dict[str, Any]:
    if found.kind == "absent":
        return {"kind": "absent"}
    noted: dict[str, Any] = {"kind": found.kind, "mode": found.mode, "uid": found.uid, "gid": found.gid}
    if found.content is not None:
        noted["content"] = encoded(found.content)
    return noted


def with_lines(content: bytes, lines: list[str]) -> bytes:
    """Return ``content`` with those of ``lines`` that it lacks at its end. Pure."""
    have = content.decode("utf-8", "surrogateescape").splitlines()
    new = [line for line in lines if line not in have]
    if not new:
        return content
    text = content.decode("utf-8", "surrogateescape")
    if text and not text.endswith("\n"):
        text += "\n"
    return (text + "".join(line + "\n" for line in new)).encode("utf-8", "surrogateescape")


def without_lines(content: bytes, lines: list[str]) -> bytes:
    """Return ``content`` without ``lines``. Pure."""
    kept = [line for line in content.decode("utf-8", "surrogateescape").splitlines(True) if line.rstrip("\r\n") not in lines]
    return "".join(kept).encode("utf-8", "surrogateescape")


def parsed(content: bytes, path: str) -> dict[str, Any]:
    """Return the JSON object in a file; an empty file is an empty one. Raises NotOurs for anything else."""
    if not content.strip():
        return {}
    try:
        found = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise NotOurs(f"{path} is not valid JSON ({error}); mend it, or move it away.") from None
    if not isinstance(found, dict):
        raise NotOurs(f"{path} holds no JSON object; move it away.")
    return found


def with_keys(content: bytes, keys: dict[str, Any], dropped: list[str], path: str) -> bytes:
    """Return a JSON object's text with ``keys`` set and ``dropped`` taken out, or the same bytes where that changes nothing.

    Raises NotOurs. Pure.
    """
    found = parsed(content, path)
    wanted = {**{key: value for key, value in found.items() if key not in dropped}, **keys}
    return content if wanted == found and content.strip() else json.dumps(wanted, indent=2, sort_keys=True).encode("utf-8") + b"\n"
