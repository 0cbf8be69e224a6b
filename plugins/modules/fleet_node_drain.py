#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""A node without work, before it is worked on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_node_drain
short_description: Have the control plane give a node no more jobs, and wait until it has none
description:
  - Asks the command C(fleet) of a machine that reaches the control plane: the controller, or the manager, where no key is needed.
  - A node that somebody put into maintenance stays there; O(state=working) gives jobs again only to one that this module drained.
author:
  - Fleet Commander maintainers
options:
  node_id:
    description: The node.
    type: str
    required: true
  state:
    description: Whether it shall have no jobs, or get jobs again.
    type: str
    choices: [drained, working]
    default: drained
  seconds:
    description: How long its jobs may take to end; after that nothing is changed and it is told which job it is.
    type: int
    default: 600
  required:
    description:
      - Whether it is a failure that the control plane cannot be asked.
      - Otherwise it is a warning, as an agent that stops gives its job back.
    type: bool
    default: false
  program:
    description: The command and its first words.
    type: list
    elements: str
    default: [/usr/local/bin/fleet]
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Let the node end its work
  fleet.commander.fleet_node_drain:
    node_id: agx0
  delegate_to: manager

- name: Give it work again
  fleet.commander.fleet_node_drain:
    node_id: agx0
    state: working
    program: ["{{ ansible_playbook_python }}", -m, fleet_api]
  delegate_to: localhost
  become: false
"""

RETURN = r"""
status:
  description: V(drained), V(working), V(maintenance) by somebody else, V(unknown) to the control plane, or V(not asked).
  returned: success
  type: str
  sample: drained
"""

import json

from ansible.module_utils.basic import AnsibleModule

COULD_NOT = (2, 3, 4, 6)
"""Exit codes of ``fleet`` where the control plane was not reached, or refused to be asked; 1 is a job that takes too long."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "node_id": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "working"], "default": "drained"},
            "seconds": {"type": "int", "default": 600},
            "required": {"type": "bool", "default": False},
            "program": {"type": "list", "elements": "str", "default": ["/usr/local/bin/fleet"]},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        changed = given["state"] == "drained"
        after = "drained\n" if changed else ""
        module.exit_json(changed=changed, status="not asked", diff={"before": "", "after": after})
    words = [*given["program"], "drain", given["node_id"], "--seconds", str(given["seconds"]), "--json"]
    words += ["--back"] if given["state"] == "working" else []
    code, out, wrong = module.run_command(words, handle_exceptions=False) if module.get_bin_path(words[0]) else (127, "", "")
    why = " ".join(wrong.split())[-400:].replace("fleet: ", "", 1) or f"there is no {words[0]}."
    if code in (*COULD_NOT, 127) and not given["required"]:
        if given["state"] == "drained":
            module.warn("{} was not drained, as the control plane could not be asked: {}".format(given["node_id"], why))
        module.exit_json(changed=False, status="not asked", diff={"before": "", "after": ""})
    if code != 0:
        module.fail_json(msg=why)
    try:
        found = json.loads(out)
        status, changed = str(found["status"]), bool(found["changed"])
    except (ValueError, KeyError, TypeError):
        module.fail_json(msg="{} answered something else than what became of {}.".format(words[0], given["node_id"]))
    module.exit_json(changed=changed, status=status, diff={"before": "", "after": f"{status}\n" if changed else ""})


if __name__ == "__main__":
    main()
