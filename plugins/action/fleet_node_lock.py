# Copyright: Fleet Commander contributors. Apache-2.0.
"""The controller's part of ``fleet_node_lock``: who the owner is, unless the task says so."""

from __future__ import annotations

import getpass
import socket
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Owner is the operation that the play belongs to, or the person who started it and where."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if not arguments.get("owner"):
            operation = self._templar.template((task_vars or {}).get("fleet_operation", ""))
            arguments["owner"] = f"operation {operation}" if operation else f"{getpass.getuser()}@{socket.gethostname()}"
        result.update(self._execute_module("fleet.commander.fleet_node_lock", module_args=arguments, task_vars=task_vars))
        return result
