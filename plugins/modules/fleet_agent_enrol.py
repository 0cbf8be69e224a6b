#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""The agent's identity."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_agent_enrol
short_description: Enrol a node's agent, once
description:
  - Gives the agent a single-use token in a file that only it can read, starts it, waits until it has an identity, and removes the file.
  - Does nothing on a node that is enrolled.
  - Without a token, the controller asks the control plane for one, by C(FLEET_URL) and C(FLEET_KEY) in its environment.
author:
  - Fleet Commander maintainers
options:
  node_id:
    description: The node's name in the fleet.
    type: str
    required: true
  token:
    description: The enrolment token.
    type: str
    default: ""
  control_plane_url:
    description: The control plane; where the controller asks for a token unless C(FLEET_URL) says otherwise.
    type: str
    required: true
  renew:
    description:
      - Forget an identity that the agent has, as the control plane does not know it. It is enrolled anew.
    type: bool
    default: false
  state_dir:
    description: The agent's state folder.
    type: path
    default: /var/lib/fleet-agent
  user:
    description: The agent's user.
    type: str
    default: fleet-agent
  unit:
    description: The agent's service.
    type: str
    default: fleet-agent.service
  timeout:
    description: Seconds within which the agent must be enrolled.
    type: int
    default: 30
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Enrol the agent
  fleet.commander.fleet_agent_enrol:
    node_id: "{{ inventory_hostname }}"
    control_plane_url: https://manager.invalid:8765
"""

RETURN = r"""
node_id:
  description: As which node it is enrolled, or null when it has no token yet.
  returned: success
  type: str
  sample: agx0
"""

import json
import os
import pwd
import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.ledger import write_file
from ansible_collections.fleet.commander.plugins.module_utils.units import UnitFailed, show, systemctl

IDENTITY = ("identity.json", "ca.pem")  # as in gpu_inference/agent/identity.py and authority.py


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "node_id": {"type": "str", "required": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "control_plane_url": {"type": "str", "required": True},
            "renew": {"type": "bool", "default": False},
            "state_dir": {"type": "path", "default": "/var/lib/fleet-agent"},
            "user": {"type": "str", "default": "fleet-agent"},
            "unit": {"type": "str", "default": "fleet-agent.service"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    given = module.params
    known = enrolled_as(given["state_dir"])
    if known is not None and not given["renew"]:
        if known != given["node_id"]:
            module.fail_json(
                msg="This machine is enrolled as {}, and the inventory calls it {}; rename it in the inventory, or retire it first.".format(
                    known, given["node_id"]
                )
            )
        module.exit_json(changed=False, node_id=known, diff={"before": "", "after": ""})
    before = "not enrolled\n" if known is None else f"enrolled as {known}, which the control plane does not know\n"
    diff = {"before": before, "after": "enrolled as {}\n".format(given["node_id"])}
    if module.check_mode:
        module.exit_json(changed=True, node_id=given["node_id"], diff=diff)
    if not given["token"]:
        module.exit_json(changed=False, node_id=None, needs_token=True)
    try:
        if given["renew"]:
            forget(given)
        node_id = enrol(given)
    except UnitFailed as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"The agent cannot be enrolled: {error}; check the node's disk and run it again.")
    if node_id is None:
        module.fail_json(
            msg="The agent did not enrol within {} s: {} Check that the node reaches {}, and run it again.".format(
                given["timeout"], last_word(given["unit"]), given["control_plane_url"]
            )
        )
    module.exit_json(changed=True, node_id=node_id, diff=diff)


def enrolled_as(state_dir: str) -> str | None:
    """Return the node id that the agent has, or None."""
    try:
        with open(os.path.join(state_dir, "identity.json"), encoding="utf-8") as file:
            return str(json.load(file)["node_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(given: dict[str, Any]) -> None:
    """Stop the agent and take its identity away, and whom it trusts with it."""
    subprocess.run(["systemctl", "stop", given["unit"]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    for name in IDENTITY:
        path = os.path.join(given["state_dir"], name)
        if os.path.exists(path):
            os.unlink(path)


def enrol(given: dict[str, Any]) -> str | None:
    """Start the agent with a token, and return its node id, or None when it got none in time. The token is gone from the node then."""
    user = pwd.getpwnam(given["user"])
    path = os.path.join(given["state_dir"], "token")
    write_file(path, given["token"].encode("utf-8"), 0o600, user.pw_uid, user.pw_gid)
    try:
        show(given["unit"])  # reads a unit that has just been written
        systemctl("restart", given["unit"])
        deadline = time.monotonic() + given["timeout"]
        while time.monotonic() < deadline:
            node_id = enrolled_as(given["state_dir"])
            if node_id is not None:
                return node_id
            time.sleep(0.1)
        return None
    finally:
        if os.path.exists(path):
            os.unlink(path)


def last_word(unit: str) -> str:
    """Return the last message that the agent logged."""
    said = subprocess.run(
        ["journalctl", "-u", unit, "-n", "20", "-o", "cat", "--no-pager"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    ).stdout  # fmt: skip
    for line in reversed(said.splitlines()):
        try:
            event = json.loads(line)
            return " ".join(str(event[key]) for key in ("message", "event", "reason") if event.get(key))
        except (ValueError, AttributeError):
            continue
    return f"it logged nothing, see 'journalctl -u {unit}' on the node."


if __name__ == "__main__":
    main()
