#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""A Jetson's settings with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_jetson
short_description: Set power mode and boot target of a Jetson so that they can be given back
description:
  - Notes in the node's ledger what they were before the first change; O(state=restored) brings that back.
author:
  - Fleet Commander maintainers
options:
  power_mode:
    description: Name or number of the power mode; empty leaves it alone.
    type: str
    default: ""
  boot_target:
    description: Whether the node starts without a desktop.
    type: str
    choices: [keep, headless]
    default: keep
  state:
    description: Whether that shall hold, or the node be as it was found.
    type: str
    choices: [present, restored]
    default: present
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: All the power there is, and no desktop
  fleet.commander.fleet_jetson:
    power_mode: MAXN
    boot_target: headless
"""

RETURN = r"""
jetson:
  description: The settings now.
  returned: success
  type: dict
  sample: {power_mode: 0, boot_target: multi-user.target}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import power
from ansible_collections.fleet.commander.plugins.module_utils.ledger import Ledger


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "power_mode": {"type": "str", "default": ""},
            "boot_target": {"type": "str", "choices": ["keep", "headless"], "default": "keep"},
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
        },
        supports_check_mode=True,
    )
    ledger = Ledger("jetson")
    restoring = module.params["state"] == "restored"
    now: dict[str, Any] = {"power_mode": power.mode_now(), "boot_target": power.target_now()}
    try:
        wanted = _noted(ledger, now) if restoring else _wanted(module.params, ledger, now)
        if not module.check_mode:
            for name, setter in (("power_mode", power.set_mode), ("boot_target", power.set_target)):
                if wanted[name] != now[name]:
                    ledger.note(name, {"value": now[name]})
                    setter(wanted[name])
                if restoring or (name == "boot_target" and module.params["boot_target"] == "keep"):
                    ledger.forget(name)
    except power.PowerFailed as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=wanted != now, jetson=wanted, diff={"before": now, "after": wanted})


def _noted(ledger: Ledger, now: dict[str, Any]) -> dict[str, Any]:
    return {name: (ledger.get(name) or {"value": value})["value"] for name, value in now.items()}


def _wanted(given: dict[str, Any], ledger: Ledger, now: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked for; what is asked for no more is as it was found."""
    found = _noted(ledger, now)
    return {
        "power_mode": power.mode_wanted(given["power_mode"]) if given["power_mode"] else now["power_mode"],
        "boot_target": power.HEADLESS if given["boot_target"] == "headless" else found["boot_target"],
    }


if __name__ == "__main__":
    main()
