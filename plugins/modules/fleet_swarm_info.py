#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""One look at a swarm."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_swarm_info
short_description: Tell what an engine is in its swarm
description:
  - A manager tells of the members too. That there is no swarm, or no engine yet, is an answer, not a failure.
author:
  - Fleet Commander maintainers
options:
  tokens:
    description: Whether the join tokens are told. They are secrets; do not log them.
    type: bool
    default: false
extends_documentation_fragment:
  - fleet.commander.attributes.info
"""

EXAMPLES = r"""
- name: Look at the swarm
  fleet.commander.fleet_swarm_info:
  register: look
"""

RETURN = r"""
swarm:
  description: What the engine is.
  returned: always
  type: dict
  sample: {state: active, manager: true, node_id: q5pl7lb0r0szqdxm5qzl1x0gn, swarm_id: 8l5yg3c2c8k1m0p7dkq0f1p2n, members: [], managers: []}
tokens:
  description: The join tokens, where they were asked for and this is a manager.
  returned: where asked for
  type: dict
  sample: {worker: SWMTKN-1-..., manager: SWMTKN-1-...}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import swarm


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"tokens": {"type": "bool", "default": False}}, supports_check_mode=True)
    found: dict[str, Any] = {"state": "inactive", "manager": False, "node_id": "", "swarm_id": "", "members": [], "managers": []}
    result: dict[str, Any] = {"changed": False, "swarm": found}
    try:
        found.update(swarm.state_now())
        if found["manager"]:
            found["members"] = swarm.members()
            found["managers"] = [each["addr"] for each in found["members"] if each["addr"]]
            if module.params["tokens"]:
                result["tokens"] = swarm.tokens()
    except swarm.SwarmFailed as error:
        found["reason"] = str(error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
