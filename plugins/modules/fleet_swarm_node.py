#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""A member of a swarm, changed by one of its managers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_swarm_node
short_description: Label a member of a swarm, or take one off its list
description:
  - Runs on a manager, about any member.
  - Sets the labels that are named, takes those away that are empty, and leaves others alone.
author:
  - Fleet Commander maintainers
options:
  node_id:
    description: Docker's id of the member; empty in check mode for one that has yet to join.
    type: str
    required: true
  labels:
    description: Labels by name.
    type: dict
    default: {}
  state:
    description: Whether the member is to be in the list.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Label a member
  fleet.commander.fleet_swarm_node:
    node_id: q5pl7lb0r0szqdxm5qzl1x0gn
    labels: {cluster: vision}
"""

RETURN = r"""
labels:
  description: The member's labels now.
  returned: success
  type: dict
  sample: {cluster: vision}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import swarm


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "node_id": {"type": "str", "required": True},
            "labels": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    absent = module.params["state"] == "absent"
    try:
        foretold = module.check_mode and not module.params["node_id"]  # one that has yet to join
        raw = None if foretold else swarm.member(module.params["node_id"])
        if raw is None and not absent and not foretold:
            module.fail_json(msg="This manager knows no node {}; see 'docker node ls' there.".format(module.params["node_id"]))
        before = dict((raw or {}).get("Spec", {}).get("Labels") or {})
        wanted = {**before, **{name: str(value) for name, value in module.params["labels"].items()}}
        after = {} if absent else {name: value for name, value in wanted.items() if value}
        changed = raw is not None if absent else after != before
        if changed and raw is not None and not module.check_mode:
            if absent:
                swarm.remove(raw["ID"])
            else:
                swarm.change(raw, {**raw["Spec"], "Labels": after})
    except swarm.SwarmFailed as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, labels=after, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
