#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Whether the engine of a node is up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_engine_info
short_description: Tell whether the agent of a node has its engine up
description:
  - Looks at the agent's processes and at what it told the journal since it was started.
  - That there is none is an answer, not a failure.
author:
  - Fleet Commander maintainers
options:
  unit:
    description: The agent's unit.
    type: str
    default: fleet-agent
  seconds:
    description: How long to wait for it to come up.
    type: int
    default: 0
extends_documentation_fragment:
  - fleet.commander.attributes.info
"""

EXAMPLES = r"""
- name: Look at the engine
  fleet.commander.fleet_engine_info:
    seconds: 60
  register: found
"""

RETURN = r"""
engine:
  description: What is known of it.
  returned: always
  type: dict
  contains:
    up:
      description: Whether it is up.
      type: bool
      sample: true
    backend:
      description: By what it computes, or null where that is not known.
      type: str
      sample: onnx
    models:
      description: The models that it serves, the first is the one that it loads by itself.
      type: list
      elements: str
      sample: [fleet-shapes, fleet-shapes-pastel]
    problems:
      description: Why models were left out.
      type: list
      elements: str
      sample: []
    reason:
      description: Why it is not up.
      type: str
      sample: ""
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.engine import look


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"unit": {"type": "str", "default": "fleet-agent"}, "seconds": {"type": "int", "default": 0}},
        supports_check_mode=True,
    )
    deadline = time.monotonic() + module.params["seconds"]
    found = look(module.params["unit"])
    while not found["up"] and time.monotonic() < deadline:
        time.sleep(0.5)
        found = look(module.params["unit"])
    module.exit_json(changed=False, engine=found)


if __name__ == "__main__":
    main()
