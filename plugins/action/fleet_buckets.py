# Copyright: Fleet Commander contributors. Apache-2.0.
"""The whole of ``fleet_buckets``: the controller's own command asks the store, by S3."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.fleet.commander.plugins.plugin_utils.controller import asked


class ActionModule(ActionBase):
    """boto3 is on the controller, and needs to be on no other machine."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what was made, or would be. Raises AnsibleActionFail."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        words = ["storage", "buckets", "--json"]
        for name in ("endpoint", "credential", "region", "workspace_days", "upload_days"):
            if given.get(name):
                words += [f"--{name.replace('_', '-')}", str(given[name])]
        if self._task.check_mode:
            words.append("--check")
        told = asked("fleet_api", words, given.get("home"), "The buckets could not be made")
        diff = {"before": "", "after": "".join(f"{each}\n" for each in told["changed"])}
        result.update(changed=bool(told["changed"]), made=told["changed"], warnings=told["warnings"], diff=diff)
        return result
