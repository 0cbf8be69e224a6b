# Copyright: Fleet Commander contributors. Apache-2.0.
"""The controller's part of ``fleet_agent_enrol``: a token from the control plane, where the task brings none and the node needs one."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.error import HTTPError, URLError

from ansible.errors import AnsibleActionFail
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase

MINUTES = 10


class ActionModule(ActionBase):
    """The token goes from the control plane to the node, and is no part of any result."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and again with a token where it asks for one. Raises AnsibleActionFail."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        name = "fleet.commander.fleet_agent_enrol"
        done = self._execute_module(name, module_args=arguments, task_vars=task_vars)
        if done.pop("needs_token", False):
            arguments["token"] = ask_for_token(str(arguments["node_id"]), str(arguments["control_plane_url"]))
            done = self._execute_module(name, module_args=arguments, task_vars=task_vars)
        result.update(done)
        return result


def ask_for_token(node_id: str, control_plane_url: str) -> str:
    """Return a token from the control plane. Raises AnsibleActionFail with what to do."""
    home = os.path.expanduser(os.environ.get("FLEET_HOME") or "~/.fleet")
    own = _read(os.path.join(home, "url"))
    url = (os.environ.get("FLEET_URL") or own or control_plane_url).rstrip("/")
    key, authority = os.environ.get("FLEET_KEY"), os.environ.get("FLEET_CA")
    if url == own:  # the data folder's key goes to its own control plane alone
        key = key or _read(os.path.join(home, "key"))
        authority = authority or os.path.join(home, "tls", "ca.crt")
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    body = json.dumps({"node_id": node_id, "expires_in_minutes": MINUTES})
    try:
        answer = open_url(
            f"{url}/api/agents/tokens", method="POST", data=body, headers=headers, timeout=10, use_proxy=False,
            ca_path=authority if authority and os.path.exists(authority) else None,
        )  # fmt: skip
        return str(json.loads(answer.read())["token"])
    except HTTPError as error:
        raise AnsibleActionFail(
            f"The control plane at {url} gave no enrolment token for {node_id}: {_detail(error)} "
            "Set FLEET_KEY to a key with the role admin."
        ) from None
    except (URLError, OSError, ValueError, KeyError) as error:
        raise AnsibleActionFail(
            f"The control plane at {url} could not be asked for an enrolment token ({error}); set FLEET_URL, or start it with 'fleet up'."
        ) from None


def _detail(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}."


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
