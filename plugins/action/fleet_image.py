# Copyright: Fleet Commander contributors. Apache-2.0.
"""The controller's part of ``fleet_image``: the context's hash, and the context itself where the node has to build."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

NAME = "fleet.commander.fleet_image"


class ActionModule(ActionBase):
    """Packs the folder only where the node asks for it."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and again with the context where it asks for it. Raises AnsibleActionFail."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "present") == "present":
            folder = os.path.expanduser(str(arguments.get("context") or ""))
            if not os.path.isfile(os.path.join(folder, str(arguments.get("dockerfile") or "Dockerfile"))):
                raise AnsibleActionFail(
                    f"There is no {arguments.get('dockerfile') or 'Dockerfile'} in {folder or 'no folder'} on the controller."
                )
            about = {name: arguments.get(name) or "" for name in ("args", "platform", "dockerfile")}
            arguments["source"] = source_of(folder, about)
        done = self._execute_module(NAME, module_args=arguments, task_vars=task_vars)
        if done.pop("needs_context", False):
            done = self._with_context(folder, arguments, task_vars)
        result.update(done)
        return result

    def _with_context(self, folder: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        try:
            place = self._connection._shell.join_path(self._connection._shell.tmpdir, "context.tar")
            with tempfile.NamedTemporaryFile(prefix="fleet-context-") as packed:
                pack(folder, packed)
                packed.flush()
                self._transfer_file(packed.name, place)
            self._fixup_perms2((self._connection._shell.tmpdir, place))
            return self._execute_module(NAME, module_args={**arguments, "archive": place}, task_vars=task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)


def entries(folder: str) -> Iterator[tuple[str, str]]:
    """Yield (path in the context, path here) in an order that is always the same; links are not followed."""
    for inner, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each not in (".git", "__pycache__"))
        for name in sorted([*names, *(each for each in folders if os.path.islink(os.path.join(inner, each)))]):
            path = os.path.join(inner, name)
            if os.path.islink(path) or os.path.isfile(path):
                yield os.path.relpath(path, folder), path


def source_of(folder: str, about: dict[str, Any]) -> str:
    """Return a hash of the context's files, and of what else the build is given."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, path in entries(folder):
        digest.update(f"\0{name}\0".encode("utf-8", "surrogateescape"))
        if os.path.islink(path):
            digest.update(b"->" + os.readlink(path).encode("utf-8", "surrogateescape"))
            continue
        digest.update(b"x" if os.stat(path).st_mode & 0o100 else b"-")
        with open(path, "rb") as file:
            while piece := file.read(1024 * 1024):
                digest.update(piece)
    return digest.hexdigest()


def pack(folder: str, out: Any) -> None:
    """Write the context as a tar file."""
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, path in entries(folder):
            tar.add(path, name, recursive=False)
