# Copyright: Fleet Commander contributors. Apache-2.0.
"""The controller's part of ``fleet_validate_inventory``: variables and names, and one look at what cannot be managed."""

from __future__ import annotations

import os
from typing import Any

import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.fleet.commander.plugins.module_utils.inventory_rules import complaints, unmanageable

ROLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))), "roles")
LOOK = (
    "head -n1 /etc/nv_tegra_release 2>/dev/null; "
    "python3 -c 'import sys; print(\"python %d.%d\" % sys.version_info[:2])' 2>/dev/null || echo no python"
)


class ActionModule(ActionBase):
    """Needs no Python on the node, as the node may have one that is too old."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return ok, or fail with every complaint, each a sentence."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = task_vars or {}
        found = complaints(
            str(given.get("inventory_hostname", "")), given, variables_of_roles(ROLES), list(self._task.args.get("allow") or [])
        )
        if not found and self._task.args.get("reach", True):
            said = self._low_level_execute_command(LOOK, sudoable=False)
            found = unmanageable(str(said.get("stdout", "")))
        result["changed"] = False
        if found:
            result.update(failed=True, msg=" ".join(found))
        return result


def variables_of_roles(folder: str) -> dict[str, set[str]]:
    """Return, for each role, the variables that its specification names."""
    found: dict[str, set[str]] = {}
    for role in sorted(os.listdir(folder)):
        path = os.path.join(folder, role, "meta", "argument_specs.yml")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                specs = yaml.safe_load(file)["argument_specs"]
            found[role] = {name for entry in specs.values() for name in entry.get("options") or {}}
    return found
