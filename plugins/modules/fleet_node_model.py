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
  - V(default) is the fleet's default model. A node that has it is left alone, whatever it has loaded. Where the control plane cannot be
    asked, or the node can neither serve nor fetch that model, it is a warning.
author:
  - Fleet Commander maintainers
options:
  node_id:
    description: The node.
    type: str
    required: true
  model:
    description: The model, or V(default).
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
  description: V(loaded), V(there) for a default model that the node has, or V(not asked).
  returned: success
  type: str
  sample: loaded
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule

LOOK_SECONDS = 1.0
UNTOLD_SECONDS = 20.0
"""How long a node that has just started may take to tell what it has."""

REFUSED = 4
COULD_NOT = (2, 3, 6)
"""Exit codes of ``fleet`` where the control plane was not reached, or refused to be asked."""

DEFAULT = "default"
NOTHING_YET = "it has: none"
"""What is said of a node that has yet to tell what it has."""


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
    given, default = module.params, module.params["model"] == DEFAULT
    if module.check_mode:
        _done(module, "not asked")
    if not module.get_bin_path(given["program"][0]):
        _give_up(module, default, "There is no {} to ask the control plane with.".format(given["program"][0]))
    asking = ["--bring-default", given["node_id"]] if default else ["--load", given["node_id"], given["model"]]
    words = [*given["program"], "models", *asking]
    begun = time.monotonic()
    deadline, first = begun + given["seconds"], ""
    while True:
        code, out, wrong = module.run_command([*words, "--json"], handle_exceptions=False)
        why = " ".join(wrong.split())[-400:].replace("fleet: ", "", 1)
        if code == 0:
            status = _status(out)
            if status == "unknown" and time.monotonic() > begun + UNTOLD_SECONDS:
                _give_up(module, default, "Neither a node nor the fleet's model store has the default model.")
            first = first or status
            why = "{} does not have {} loaded after {} s; it is {}.".format(given["node_id"], given["model"], given["seconds"], status)
            if status in ("loaded", "there"):
                _done(module, status, first not in ("loaded", "there"))
        elif default and (code in COULD_NOT or (code == REFUSED and NOTHING_YET not in why)):
            _give_up(module, default, why)
        elif code != REFUSED:  # a node that has just started has yet to tell what it has
            module.fail_json(msg=why or f"fleet ended with code {code}.")
        if time.monotonic() > deadline:
            module.fail_json(msg=why)
        time.sleep(LOOK_SECONDS)


def _give_up(module: AnsibleModule, default: bool, why: str) -> None:
    """Fail, or, for a default that nobody asked for by its name, warn."""
    if not default:
        module.fail_json(msg=why)
    module.warn("{} was not brought the fleet's default model: {}".format(module.params["node_id"], why))
    _done(module, "not asked")


def _done(module: AnsibleModule, status: str, changed: bool = False) -> None:
    after = "{}\n".format(module.params["model"]) if changed else ""
    module.exit_json(changed=changed, status=status, diff={"before": "", "after": after})


def _status(out: str) -> str:
    try:
        return str(json.loads(out)["status"])
    except (ValueError, KeyError, TypeError):
        return "in an unknown state"


if __name__ == "__main__":
    main()
