# Copyright: Fleet Commander contributors. Apache-2.0.
"""What a file shall become, given what it is and what the ledger has of it. Pure."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Optional, Tuple

from ansible_collections.fleet.commander.plugins.module_utils import files
from ansible_collections.fleet.commander.plugins.module_utils.files import ABSENT, Stat

Plan = Tuple[Stat, Dict[str, Any]]
Entry = Optional[Dict[str, Any]]


def whole(content: bytes, mode: int, uid: int, gid: int) -> Plan:
    """The file is ours."""
    return Stat("file", content, mode, uid, gid), {"how": "whole", "written": digest(content)}


def folder(mode: int, uid: int, gid: int) -> Plan:
    """The folder is ours."""
    return Stat("directory", None, mode, uid, gid), {"how": "folder"}


def lines(now: Stat, entry: Entry, wanted: list[str], mode: int, uid: int, gid: int) -> Plan:
    """Some lines are ours; those that an earlier run added and that are not wanted any more go."""
    had = now.content or b""
    ours = list((entry or {}).get("lines", []))
    kept = files.without_lines(had, [line for line in ours if line not in wanted])
    present = kept.decode("utf-8", "surrogateescape").splitlines()
    ours = [line for line in wanted if line in ours or line not in present]
    return Stat("file", files.with_lines(kept, wanted), mode, uid, gid), {"how": "lines", "lines": ours}


def keys(path: str, now: Stat, entry: Entry, wanted: dict[str, Any], mode: int, uid: int, gid: int) -> Plan:
    """Some keys of a JSON object are ours; those that an earlier run set and that are not wanted any more are as they were."""
    had = files.parsed(now.content or b"", path)
    ours = dict((entry or {}).get("keys", {}))
    back = {key: was["value"] for key, was in ours.items() if key not in wanted and was["had"]}
    dropped = [key for key, was in ours.items() if key not in wanted and not was["had"]]
    # Beside what others keep in the same object, such as another runtime.
    merged = {
        key: {**had[key], **value} if isinstance(value, dict) and isinstance(had.get(key), dict) else value for key, value in wanted.items()
    }
    content = files.with_keys(now.content or b"", {**back, **merged}, dropped, path)
    ours = {key: ours.get(key, {"had": key in had, "value": had.get(key)}) for key in wanted}
    return Stat("file", content, mode, uid, gid), {"how": "keys", "keys": ours}


def restored(path: str, now: Stat, entry: dict[str, Any]) -> tuple[Stat, bool]:
    """What gives the node back what it had, and whether somebody changed a file that was ours as a whole."""
    was = files.before(entry)
    how = entry.get("how", "folder")
    if how == "folder" or now.kind != "file":
        return was, False
    if how == "whole":
        return was, now.content != was.content and digest(now.content or b"") != entry["written"]
    if how == "lines":
        content = files.without_lines(now.content or b"", entry["lines"])
    else:
        back = {key: value["value"] for key, value in entry["keys"].items() if value["had"]}
        dropped = [key for key, value in entry["keys"].items() if not value["had"]]
        content = files.with_keys(now.content or b"", back, dropped, path)
        if was.content is not None and files.parsed(content, path) == files.parsed(was.content, path):
            content = was.content
        elif was.kind == "absent" and files.parsed(content, path) == {}:
            content = b""
    if was.kind == "absent" and not content.strip():
        return ABSENT, False
    attributes = was if was.kind == "file" else now
    return Stat("file", content, attributes.mode, attributes.uid, attributes.gid), False


def digest(content: bytes) -> str:
    """Return a content's SHA-256."""
    return hashlib.sha256(content).hexdigest()
