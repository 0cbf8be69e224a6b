#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Membership of a swarm with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_swarm
short_description: Form, join and leave a Docker Swarm
description:
  - A node that is in the swarm already is left alone. One of another swarm is refused unless O(force).
  - Notes in the node's ledger that it was in no swarm; O(state=restored) makes it leave then.
author:
  - Fleet Commander maintainers
options:
  state:
    description: V(formed) makes this engine the first manager, V(joined) brings it into a swarm, V(absent) makes it leave.
    type: str
    choices: [formed, joined, absent, restored]
    default: joined
  token:
    description: The join token, which says too whether it becomes a worker or a manager.
    type: str
  managers:
    description: Addresses of managers, with their port.
    type: list
    elements: str
    default: []
  members:
    description: Docker's ids of the swarm's members, by which a member of it is told from one of another swarm.
    type: list
    elements: str
    default: []
  advertise_addr:
    description: Address by which others reach this node; empty lets the engine choose.
    type: str
    default: ""
  force:
    description: Whether a member of another swarm leaves that one.
    type: bool
    default: false
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Form a swarm
  fleet.commander.fleet_swarm:
    state: formed
    advertise_addr: 192.0.2.10
"""

RETURN = r"""
swarm:
  description: What this engine is now.
  returned: success
  type: dict
  sample: {state: active, manager: true, node_id: q5pl7lb0r0szqdxm5qzl1x0gn, swarm_id: 8l5yg3c2c8k1m0p7dkq0f1p2n}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import swarm
from ansible_collections.fleet.commander.plugins.module_utils.ledger import Ledger

NAME = "membership"
OUT = {"state": "inactive", "manager": False, "node_id": "", "swarm_id": ""}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["formed", "joined", "absent", "restored"], "default": "joined"},
            "token": {"type": "str", "no_log": True},
            "managers": {"type": "list", "elements": "str", "default": []},
            "members": {"type": "list", "elements": "str", "default": []},
            "advertise_addr": {"type": "str", "default": ""},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    ledger = Ledger("swarm")
    try:
        before = _now(module.params["state"], ledger)
        steps = _steps(module.params, before, ledger)
        after = _foretold(before, steps) if module.check_mode else _done(module.params, steps, before, ledger)
    except swarm.SwarmFailed as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(steps), swarm=after, diff={"before": before, "after": after})


def _now(wanted: str, ledger: Ledger) -> dict[str, Any]:
    """Return what the engine is. Where it is to be out, an engine that is gone is out."""
    try:
        return swarm.state_now()
    except swarm.SwarmFailed:
        if wanted in ("absent", "restored"):
            return dict(OUT)
        raise


def _steps(given: dict[str, Any], now: dict[str, Any], ledger: Ledger) -> list[str]:
    """Return what has to be done. Raises SwarmFailed for what may not be."""
    inside = now["state"] != "inactive"
    if given["state"] == "restored":
        return ["leave"] if inside and ledger.get(NAME) is not None else []
    if given["state"] == "absent":
        return ["leave"] if inside else []
    if now["state"] == "locked":
        raise swarm.SwarmFailed("The swarm on this node is locked; run 'docker swarm unlock' there first.")
    fine = now["manager"] if given["state"] == "formed" else inside and now["node_id"] in given["members"]
    if fine:
        return []
    if inside and not given["force"]:
        raise swarm.SwarmFailed("This node is in another swarm already; set the role's variable that ends in _force to make it leave.")
    return [*(["leave"] if inside else []), "form" if given["state"] == "formed" else "join"]


def _done(given: dict[str, Any], steps: list[str], before: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    for step in steps:
        if step == "leave":
            swarm.leave()
        elif step == "form":
            ledger.note(NAME, {"state": before["state"]})
            swarm.form(given["advertise_addr"])
        else:
            ledger.note(NAME, {"state": before["state"]})
            swarm.join(given["token"] or "", given["managers"], given["advertise_addr"])
    if given["state"] in ("absent", "restored"):
        ledger.forget(NAME)
        return dict(OUT)
    return swarm.state_now()


def _foretold(before: dict[str, Any], steps: list[str]) -> dict[str, Any]:
    if not steps:
        return before
    if steps[-1] == "leave":
        return dict(OUT)
    return {**before, "state": "active", "manager": steps[-1] == "form"}


if __name__ == "__main__":
    main()
