#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""The model that a node has loaded."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_node_model
short_description: Have the control plane tell a node to fetch and load a model, and wait until it has
description:
  - Asks the command C(fleet) of a machine that reaches the control plane: the controller, or the manager, where no key is needed.
  - A node that does not have the model fetches it out of the fleet's model store.
author:
  - Fleet Commander maintainers
options:
  node_id:
    description: The node.
    type: str
    required: true
  model:
    description: The model.
    type: str
    required: true
  seconds:
    description: How long fetching and loading may take.
    type: int
    default: 1800
  program:
    description: The command and its first words.
    type: list
    elements: str
    default: [/usr/local/bin/fleet]
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Have the model there before the first job
  fleet.commander.fleet_node_model:
    node_id: agx0
    model: sdxl-base
  delegate_to: manager
"""

RETURN = r"""
status:
  description: V(loaded), or V(not asked) in check mode.
  returned: success
  type: str
  sample: loaded
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule

LOOK_SECONDS = 1.0
REFUSED = 4


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "node_id": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "seconds": {"type": "int", "default": 1800},
            "program": {"type": "list", "elements": "str", "default": ["/usr/local/bin/fleet"]},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        module.exit_json(changed=False, status="not asked", diff={"before": "", "after": ""})
    if not module.get_bin_path(given["program"][0]):
        module.fail_json(msg="There is no {} to ask the control plane with.".format(given["program"][0]))
    words = [*given["program"], "models", "--load", given["node_id"], given["model"], "--json"]
    deadline, first = time.monotonic() + given["seconds"], ""
    while True:
        code, out, wrong = module.run_command(words, handle_exceptions=False)
        why = " ".join(wrong.split())[-400:].replace("fleet: ", "", 1)
        if code == 0:
            status = _status(out)
            first = first or status
            why = "{} does not have {} loaded after {} s; it is {}.".format(given["node_id"], given["model"], given["seconds"], status)
            if status == "loaded":
                break
        elif code != REFUSED:  # a node that has just started has yet to tell what it has
            module.fail_json(msg=why or f"fleet ended with code {code}.")
        if time.monotonic() > deadline:
            module.fail_json(msg=why)
        time.sleep(LOOK_SECONDS)
    changed = first != "loaded"
    module.exit_json(changed=changed, status="loaded", diff={"before": "", "after": "{}\n".format(given["model"]) if changed else ""})


def _status(out: str) -> str:
    try:
        return str(json.loads(out)["status"])
    except (ValueError, KeyError, TypeError):
        return "in an unknown state"


if __name__ == "__main__":
    main()
