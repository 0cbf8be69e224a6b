# Copyright: Fleet Commander contributors. Apache-2.0.
"""The controller's part of ``fleet_program``: a program of the controller's goes to the node where that has not got the same."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

NAME = "fleet.commander.fleet_program"


class ActionModule(ActionBase):
    """Sends it at most once, and only where its checksum says that it is another one."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module. Raises AnsibleActionFail where the program is not on the controller."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "present") == "restored" or not arguments.get("source"):
            result.update(self._execute_module(NAME, module_args=arguments, task_vars=task_vars))
            return result
        source = os.path.expanduser(str(arguments["source"]))
        arguments["sha256"] = _digest(source)
        done = self._execute_module(NAME, module_args=arguments, task_vars=task_vars)
        if done.pop("needs_file", False):
            self._make_tmp_path()
            try:
                brought = self._connection._shell.join_path(self._connection._shell.tmpdir, "program")
                self._transfer_file(source, brought)
                arguments["brought"] = brought
                done = self._execute_module(NAME, module_args=arguments, task_vars=task_vars)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        result.update(done)
        return result


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise AnsibleActionFail(f"{path} cannot be read on the controller: {error.strerror}.") from None
    return digest.hexdigest()
