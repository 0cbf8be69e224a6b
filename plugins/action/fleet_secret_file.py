# Copyright: Fleet Commander contributors. Apache-2.0.
"""The controller's part of ``fleet_secret_file``: what a file of the controller's holds, which is no part of any result."""

from __future__ import annotations

import base64
import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Reads the file on the controller, and gives it to the module as an argument that is never logged."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module. Raises AnsibleActionFail where the file is not there."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "present") == "present":
            arguments["content"] = base64.b64encode(self._read(str(arguments["source"]))).decode()
        result.update(self._execute_module("fleet.commander.fleet_secret_file", module_args=arguments, task_vars=task_vars))
        return result

    def _read(self, source: str) -> bytes:
        path = os.path.expanduser(source)
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            if self._task.check_mode:
                return b"{}"  # an earlier task would have made it
            raise AnsibleActionFail(f"{path} is not on the controller: {error.strerror}.") from None
        except OSError as error:
            raise AnsibleActionFail(f"{path} cannot be read on the controller: {error.strerror}.") from None
