# Copyright: Fleet Commander contributors. Apache-2.0.
"""The controller's part of ``fleet_storage_file``: a file with the object store's secret, which is no part of any result."""

from __future__ import annotations

import base64
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.fleet.commander.plugins.plugin_utils.controller import asked

MARKS = ("endpoint", "region", "access_key", "secret_key")
PLACING = ("path", "mode", "owner", "group", "folder_mode")
FAILED = "The object store's credential could not be opened"


class ActionModule(ActionBase):
    """Fills the text in, and gives it to ``fleet_secret_file`` as an argument that is never logged."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module. Raises AnsibleActionFail where the vault has no such credential."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        arguments = {name: given[name] for name in PLACING if name in given}
        arguments["state"] = given.get("state", "present")
        if arguments["state"] == "present":
            arguments["source"] = "the vault"
            arguments["content"] = base64.b64encode(self._filled(given).encode()).decode()
        result.update(self._execute_module("fleet.commander.fleet_secret_file", module_args=arguments, task_vars=task_vars))
        return result

    def _filled(self, given: dict[str, Any]) -> str:
        words = [part for name in ("endpoint", "credential", "region") if given.get(name) for part in (f"--{name}", str(given[name]))]
        try:
            values = asked("fleet_api.storage.handing", words, given.get("home"), FAILED)
        except AnsibleActionFail:
            if not self._task.check_mode:
                raise
            values = dict.fromkeys(MARKS, "")  # an earlier task would have made it
        text = str(given["content"])
        for name in MARKS:
            text = text.replace(f"@{name.upper()}@", str(values[name]))
        return text
