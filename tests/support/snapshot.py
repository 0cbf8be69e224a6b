"""A node's file system as it is: for saying what changed and what came back."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.lab import Node

SCRIPT = r"""
import hashlib, json, os, stat, sys
found = {}
device = os.stat("/").st_dev
for folder, folders, files in os.walk("/"):
    folders[:] = [each for each in folders if os.lstat(os.path.join(folder, each)).st_dev == device]
    for name in folders + files:
        path = os.path.join(folder, name)
        try:
            about = os.lstat(path)
            if stat.S_ISLNK(about.st_mode):
                what = "-> " + os.readlink(path)
            elif stat.S_ISREG(about.st_mode):
                with open(path, "rb") as file:
                    what = hashlib.sha256(file.read()).hexdigest()
            else:
                what = ""
        except OSError:
            continue
        found[path] = [oct(about.st_mode), about.st_uid, about.st_gid, what]
print(json.dumps(found))
"""

MAY_DIFFER = re.compile(
    r"/var/(log|cache|backups)(/|$)|/var/lib/(apt|dpkg|systemd|ucf)(/|$)|/var/tmp|/tmp|/run(/|$)"
    r"|/etc/(ld\.so\.cache|\.pwd\.lock|mtab)$|/(etc|var/lib)/.*(~|-)$|.*/__pycache__(/|$)"
    r"|/home/[^/]+/\.sudo_as_admin_successful$"  # sudo's own note, of the first time that anybody became root by it
    r"|/etc/(hostname|hosts|resolv\.conf)$"  # of the engine that runs the lab
)
"""Logs, caches and the package database; files of the engine that runs the lab."""


def snapshot(node: Node) -> dict[str, Any]:
    """Return mode, owner and content of every file of a node."""
    found: dict[str, Any] = json.loads(node.run("python3", "-c", SCRIPT))
    return {path: about for path, about in found.items() if not MAY_DIFFER.match(path)}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what is not as it was, a line each."""
    gone = [f"gone: {path}" for path in sorted(before.keys() - after.keys())]
    new = [f"new: {path}" for path in sorted(after.keys() - before.keys())]
    both = sorted(before.keys() & after.keys())
    return gone + new + [f"changed: {path} {before[path]} {after[path]}" for path in both if before[path] != after[path]]
