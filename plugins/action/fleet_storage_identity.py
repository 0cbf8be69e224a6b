# Copyright: Fleet Commander contributors. Apache-2.0.
"""The whole of ``fleet_storage_identity``: the controller's own command makes what is missing in the vault and the data folder."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.fleet.commander.plugins.plugin_utils.controller import asked


class ActionModule(ActionBase):
    """No secret is in its arguments or results."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what was made. Raises AnsibleActionFail."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        words = ["storage", "identity", str(given["endpoint"]), "--json"]
        for name in ("credential", "region"):
            if given.get(name):
                words += [f"--{name}", str(given[name])]
        if self._task.check_mode:
            words.append("--check")
        told = asked("fleet_api", words, given.get("home"), "The object store's credential could not be made")
        diff = {"before": "", "after": "".join(f"{name} of the object store\n" for name in told["made"])}
        result.update(changed=bool(told["made"]), made=told["made"], credential=told["credential"], diff=diff)
        return result
