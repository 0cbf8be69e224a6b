# Copyright: Fleet Commander contributors. Apache-2.0.
"""What actions ask of the control plane's own code on the controller: a program of its own, so that neither imports the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ansible.errors import AnsibleActionFail

SECONDS = 120


def asked(module: str, words: list[str], home: Any, what: str) -> dict[str, Any]:
    """Run ``python -m MODULE WORDS`` on a data folder, and return the JSON that it prints. Raises AnsibleActionFail with its sentence."""
    folder = ["--home", os.path.expanduser(str(home))] if home else []
    try:
        done = subprocess.run([sys.executable, "-m", module, *words, *folder], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AnsibleActionFail(f"{what} on the controller: {error}.") from None
    if "No module named fleet_api" in done.stderr:
        raise AnsibleActionFail(f"{what}: the controller has no fleet_api; pip install fleet-commander there.")
    try:
        if done.returncode:
            raise ValueError
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    except ValueError:
        said = " ".join(done.stderr.split())[-400:].removeprefix("fleet: ") or "it said nothing"
        raise AnsibleActionFail(f"{what} on the controller: {said}") from None
