#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Services with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_unit
short_description: Start and enable a systemd unit so that it can be given back as it was
description:
  - Notes in the node's ledger what a unit was like before the first change; O(state=restored) brings that back.
  - A unit that was not there before is stopped and disabled by V(restored).
author:
  - Fleet Commander maintainers
options:
  name:
    description: The unit; without a suffix it is a service.
    type: str
    required: true
  state:
    description: Whether the other options shall hold, or the unit be as it was found.
    type: str
    choices: [present, restored]
    default: present
  active:
    description: Whether it shall run. Left out, that stays as it is.
    type: bool
  enabled:
    description: Whether it shall start with the node. Left out, that stays as it is.
    type: bool
  masked:
    description: Whether nothing shall be able to start it. Left out, that stays as it is.
    type: bool
  renew:
    description:
      - Restart the unit, or make it read its settings again, if it runs. Always a change, so it is for handlers.
      - A unit that this run would bring in check mode is taken as there.
    type: str
    choices: [restart, reload]
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Run the engine
  fleet.commander.fleet_unit:
    name: docker
    active: true
    enabled: true
"""

RETURN = r"""
unit:
  description: What the unit is like now.
  returned: success
  type: dict
  sample: {exists: true, enabled: true, active: true, masked: false}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.units import ABSENT, Unit, UnitFailed, systemctl, wanted_of


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
            "active": {"type": "bool"},
            "enabled": {"type": "bool"},
            "masked": {"type": "bool"},
            "renew": {"type": "str", "choices": ["restart", "reload"]},
        },
        supports_check_mode=True,
    )
    given = module.params
    unit = Unit(given["name"])
    now = unit.now
    restoring = given["state"] == "restored"
    if restoring:
        noted = unit.entry or now
        # One that came with us goes with its package or its file; until then it only must not run.
        wanted = noted if noted["exists"] else ({**ABSENT, "exists": True} if now["exists"] else now)
    else:
        wanted = wanted_of(now, given["enabled"], given["active"], given["masked"])
    if given["renew"]:
        _renew(module, unit)
    changed = wanted != now if now["exists"] or not restoring else False
    if not restoring and not now["exists"] and not module.check_mode:
        module.fail_json(msg=f"There is no unit {unit.name} on this node; install what brings it first.")
    if not module.check_mode:
        try:
            if restoring:
                unit.give_back(wanted)
            elif changed:
                unit.become(wanted)
        except UnitFailed as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=changed, unit=wanted, diff={"before": now, "after": wanted})


def _renew(module: AnsibleModule, unit: Unit) -> None:
    if unit.now["active"] and not module.check_mode:
        try:
            systemctl(module.params["renew"], unit.name)
        except UnitFailed as error:
            module.fail_json(msg=str(error))
    after = {"renewed": module.params["renew"]}
    module.exit_json(changed=unit.now["active"], unit=unit.now, diff={"before": {}, "after": after if unit.now["active"] else {}})


if __name__ == "__main__":
    main()
