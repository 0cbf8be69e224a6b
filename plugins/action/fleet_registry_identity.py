# Copyright: Fleet Commander contributors. Apache-2.0.
"""The whole of ``fleet_registry_identity``: the controller's own command makes what is missing in the data folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

SECONDS = 60


class ActionModule(ActionBase):
    """No secret is in its arguments or results: they are paths of files on the controller."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the folder, and what was made. Raises AnsibleActionFail."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        words = [
            str(given["address"]),
            *(str(name) for name in given.get("names") or []),
            "--username",
            str(given.get("username", "fleet")),
        ]
        if self._task.check_mode:
            words.append("--check")
        if given.get("home"):
            words += ["--home", os.path.expanduser(str(given["home"]))]
        told = identity(words)
        made = told["made"]
        diff = {"before": "", "after": "".join(f"{name} in {told['folder']}\n" for name in made)}
        result.update(changed=bool(made), folder=told["folder"], made=made, diff=diff)
        return result


def identity(words: list[str]) -> dict[str, Any]:
    """Run ``fleet registry identity`` and return what it says. Raises AnsibleActionFail with its sentence."""
    program = [sys.executable, "-m", "fleet_api", "registry", "identity", *words, "--json"]
    try:
        done = subprocess.run(program, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AnsibleActionFail(f"The registry's certificate could not be made on the controller: {error}.") from None
    if "No module named fleet_api" in done.stderr:
        raise AnsibleActionFail(
            "The controller has no fleet_api to make the registry's certificate with: pip install fleet-commander there."
        )
    try:
        if done.returncode:
            raise ValueError
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    except ValueError:
        said = " ".join(done.stderr.split())[-400:] or "it said nothing"
        raise AnsibleActionFail(f"The registry's certificate could not be made on the controller: {said}") from None
