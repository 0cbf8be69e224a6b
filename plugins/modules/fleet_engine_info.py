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
  service:
    description: The service of the swarm whose container on this node is the agent; empty where the agent is a unit.
    type: str
    default: ""
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
    devices:
      description: On what it can compute, or null where that is not known.
      type: list
      elements: str
      sample: [cuda, cpu]
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
    container:
      description: The container that the agent runs in; empty for a unit, and where none runs.
      type: str
      sample: ""
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.engine import look, look_into


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": "fleet-agent"},
            "service": {"type": "str", "default": ""},
            "seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    deadline = time.monotonic() + module.params["seconds"]
    found = _look(module.params)
    while not found["up"] and time.monotonic() < deadline:
        time.sleep(0.5)
        found = _look(module.params)
    module.exit_json(changed=False, engine=found)


def _look(given: dict[str, Any]) -> dict[str, Any]:
    return look_into(given["service"]) if given["service"] else {**look(given["unit"]), "container": ""}


if __name__ == "__main__":
    main()
