# Copyright: Fleet Commander contributors. Apache-2.0.
"""What packages leave behind when they go: looked for before they come, taken away after they went."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

from ansible_collections.fleet.commander.plugins.module_utils.accounts import group_exists


def look(paths: list[str], groups: list[str]) -> dict[str, Any]:
    """Return those of ``paths`` that are not there, those that are empty folders with their mode, and the groups that are not there."""
    absent = [path for path in paths if not os.path.lexists(path)]
    empty = {path: os.stat(path).st_mode & 0o7777 for path in paths if os.path.isdir(path) and not os.listdir(path)}
    return {"absent": absent, "empty": empty, "groups": [group for group in groups if not group_exists(group)]}


def remove(found: dict[str, Any]) -> None:
    """Bring back what :func:`look` found. Raises OSError."""
    for path in found["absent"]:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
    for path, mode in found["empty"].items():
        if os.path.isdir(path):
            empty(path)
            os.chmod(path, mode)
    for group in found["groups"]:
        if group_exists(group):
            subprocess.run(["groupdel", group], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def empty(path: str) -> None:
    """Remove all that is in a folder. Raises OSError."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
