#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""One run at a time on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_node_lock
short_description: Take or free the lock of a node
description:
  - Keeps a play that a person starts and the control plane from working on one node at a time.
  - The lock is a file on the node. It is gone after a reboot, and counts no more when it is older than O(max_age).
author:
  - Fleet Commander maintainers
options:
  owner:
    description: Who takes it, such as the id of an operation or C(user@host).
    type: str
    required: true
  state:
    description: Whether to take it or to free it. What another owner holds is not freed.
    type: str
    choices: [held, free]
    default: held
  max_age:
    description: Seconds after which a lock counts as forgotten and is taken over, with a warning.
    type: int
    default: 7200
  path:
    description: The file.
    type: path
    default: /run/fleet/lock.json
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Take the node
  fleet.commander.fleet_node_lock:
    owner: alice@manager

- name: Free the node
  fleet.commander.fleet_node_lock:
    owner: alice@manager
    state: free
"""

RETURN = r"""
lock:
  description: The lock as it is now, or null when nobody holds it.
  returned: success
  type: dict
  sample: {owner: alice@manager, boot_id: 63405a84-ce77-4224-aca2-387ec3a28e7c, since: "2026-01-01T12:00:00Z"}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import lock
from ansible_collections.fleet.commander.plugins.module_utils.node import boot_id


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "owner": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "free"], "default": "held"},
            "max_age": {"type": "int", "default": 7200},
            "path": {"type": "path", "default": "/run/fleet/lock.json"},
        },
        supports_check_mode=True,
    )
    given = module.params
    place = lock.Lock(given["path"], boot_id() or "", given["max_age"])
    before = place.read()
    try:
        if given["state"] == "held":
            warning = place.take(given["owner"], module.check_mode)
            if warning:
                module.warn(warning)
        else:
            place.free(given["owner"], module.check_mode)
    except lock.Held as held:
        module.fail_json(msg=str(held))
    except OSError as error:
        module.fail_json(msg="The node's lock {} cannot be written: {}.".format(given["path"], error.strerror))
    # Not a change of the node: it is gone when the play ends.
    module.exit_json(changed=False, lock=place.read(), diff={"before": before, "after": place.read()})


if __name__ == "__main__":
    main()
