# Copyright: Fleet Commander contributors. Apache-2.0.
"""The controller's part of ``fleet_swarm_info``: join tokens are kept from every callback, a failure is not."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.fleet.commander.plugins.plugin_utils.hiding import hidden


class ActionModule(ActionBase):
    """A join token is good for whoever reads it."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(self._execute_module("fleet.commander.fleet_swarm_info", module_args=self._task.args, task_vars=task_vars))
        return hidden(result) if self._task.args.get("tokens") else result
