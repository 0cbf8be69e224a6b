#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Packages with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_packages
short_description: Install packages so that they can be taken away again
description:
  - Installs what is missing, and notes in the node's ledger which packages that brings, dependencies included.
  - O(state=restored) purges exactly those. What was there before stays, and so does what others have come to need.
  - Waits for another package manager to end, and finishes an installation that was cut off.
author:
  - Fleet Commander maintainers
options:
  names:
    description: The packages.
    type: list
    elements: str
    default: []
  owner:
    description: For whom, such as the name of a role; V(restored) takes away what was installed for the same owner.
    type: str
    required: true
  state:
    description: Whether they shall be there, or the node be as it was found.
    type: str
    choices: [present, restored]
    default: present
  leftover_paths:
    description:
      - Folders that the packages fill while they run and leave behind when they go, such as C(/var/lib/docker).
      - V(restored) empties those that were not there, or were empty, before the packages came.
    type: list
    elements: path
    default: []
  leftover_groups:
    description: Groups that the packages make and leave behind; V(restored) removes those that were not there.
    type: list
    elements: str
    default: []
  lock_timeout:
    description: Seconds to wait for another package manager.
    type: int
    default: 300
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Install the engine
  fleet.commander.fleet_packages:
    names: [docker.io]
    owner: docker_engine

- name: Take it away again
  fleet.commander.fleet_packages:
    owner: docker_engine
    state: restored
"""

RETURN = r"""
packages:
  description: The packages that came, or went.
  returned: success
  type: list
  elements: str
  sample: [containerd, docker.io, runc]
kept:
  description: Packages that were brought and stay, as others need them.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.packages import Packages, PackagesFailed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "default": []},
            "owner": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
            "leftover_paths": {"type": "list", "elements": "path", "default": []},
            "leftover_groups": {"type": "list", "elements": "str", "default": []},
            "lock_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    given = module.params
    packages = Packages(given["owner"], given["lock_timeout"], module.warn, given["leftover_paths"], given["leftover_groups"])
    coming, kept = [], []
    try:
        if given["state"] == "present":
            coming = packages.install(given["names"], module.check_mode)
            diff = {"before": "", "after": "".join(f"{name}\n" for name in coming)}
        else:
            coming, kept = packages.restore(module.check_mode)
            diff = {"before": "".join(f"{name}\n" for name in coming), "after": ""}
    except PackagesFailed as error:
        module.fail_json(msg=str(error))
    if kept:
        module.warn("{} stay installed, as other packages have come to need them.".format(", ".join(kept)))
    module.exit_json(changed=bool(coming), packages=coming, kept=kept, diff=diff)


if __name__ == "__main__":
    main()
